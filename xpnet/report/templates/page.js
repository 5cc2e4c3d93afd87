"use strict";
// The network in this page, how a drawing becomes its input, and what shows both.
(() => {
  const byId = (id) => document.getElementById(id);

  // The network: inputs (raw - shift) * scale, then layers W A + b with an activation between two.

  function decoded(text, Type) {
    const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
    return new Type(bytes.buffer);
  }

  function loaded(saved) {
    return {
      ...saved,
      shift: decoded(saved.shift, Float64Array),
      scale: decoded(saved.scale, Float64Array),
      layers: saved.layers.map(({ weight, bias }) => ({
        weight: decoded(weight, Float32Array), // (outputs, inputs), row by row
        bias: decoded(bias, Float64Array), // (outputs)
      })),
    };
  }

  const activation = ACTIVATION; // its form in xpnet.nn.functional, null without one

  function linear({ weight, bias }, inputs) {
    const outputs = Float64Array.from(bias);
    for (let unit = 0; unit < outputs.length; unit += 1) {
      const row = unit * inputs.length;
      let sum = 0;
      for (let k = 0; k < inputs.length; k += 1) sum += weight[row + k] * inputs[k];
      outputs[unit] += sum;
    }
    return outputs;
  }

  /** The logits of a network for raw features, as the training data had them. */
  function logits(network, raw) {
    const { shift, scale, layers } = network;
    let values = Float64Array.from(raw, (value, k) => (value - shift[k % shift.length]) * scale[k % scale.length]);
    layers.forEach((layer, index) => {
      values = linear(layer, values);
      if (index < layers.length - 1) values = values.map(activation);
    });
    return values;
  }

  /** The softmax of logits. */
  function softmax(values) {
    const largest = Math.max(...values);
    const exponentials = values.map((value) => Math.exp(value - largest));
    const sum = exponentials.reduce((total, value) => total + value, 0);
    return exponentials.map((value) => value / sum);
  }

  // A drawing becomes an input as MNIST's digits did, and as xpnet.digits does it: scaled to a box of 20
  // pixels, and laid into a field of 28 so that its centre of mass is in the pixel 14, counted from 0.
  // Other sides scale these numbers.

  const FIELD = 28;
  const BOX = 20;

  function inkBox({ ink, width, height }) {
    let [left, top, right, bottom] = [width, height, 0, 0];
    for (let y = 0; y < height; y += 1) {
      for (let x = 0; x < width; x += 1) {
        if (ink[y * width + x] > 0) {
          left = Math.min(left, x);
          right = Math.max(right, x + 1);
          top = Math.min(top, y);
          bottom = y + 1;
        }
      }
    }
    return right > left ? { left, top, width: right - left, height: bottom - top } : null;
  }

  /** For each of `count` pixels of `step` around the middle: the first source pixel it covers, and its shares. */
  function averages(middle, count, step, limit) {
    return Array.from({ length: count }, (_, k) => {
      const begin = middle + (k - count / 2) * step;
      const end = begin + step;
      const first = Math.max(0, Math.floor(begin));
      const shares = [];
      for (let at = first; at < Math.min(Math.ceil(end), limit); at += 1) {
        shares.push((Math.min(end, at + 1) - Math.max(begin, at)) / step);
      }
      return { first, shares };
    });
  }

  /** The ink in a box, averaged over areas so that its longer side is `target` pixels; the largest is 255. */
  function reduced({ ink, width: limit, height: lines }, box, target) {
    const longest = Math.max(box.width, box.height);
    const step = longest / target;
    const [width, height] = [box.width, box.height].map((length) => Math.ceil((length * target) / longest));
    const across = averages(box.left + box.width / 2, width, step, limit);
    const down = averages(box.top + box.height / 2, height, step, lines);
    const small = new Float64Array(width * height);
    const row = new Float64Array(width);
    down.forEach(({ first: top, shares: parts }, y) => {
      parts.forEach((part, line) => {
        across.forEach(({ first, shares }, x) => {
          const start = (top + line) * limit + first;
          row[x] = shares.reduce((sum, share, k) => sum + share * ink[start + k], 0);
        });
        row.forEach((value, x) => { small[y * width + x] += part * value; });
      });
    });
    const largest = small.reduce((one, other) => Math.max(one, other), 0);
    return { ink: small.map((value) => Math.round((value * 255) / largest)), width, height };
  }

  /** Where a reduced drawing begins in the field, so that its centre of mass is in the middle. */
  function placed({ ink, width, height }, side) {
    let [sum, across, down] = [0, 0, 0];
    ink.forEach((value, at) => {
      sum += value;
      across += value * ((at % width) + 0.5);
      down += value * (Math.floor(at / width) + 0.5);
    });
    const start = (centre, length) =>
      Math.min(Math.max(Math.floor(side / 2) - Math.floor(centre), 0), side - length);
    return [start(across / sum, width), start(down / sum, height)];
  }

  /** The field (side * side) of ink from 0 to 255 that a drawing { ink, width, height } makes; null without ink. */
  function field(image, side) {
    const box = inkBox(image);
    if (box === null) return null;
    const small = reduced(image, box, Math.max(1, Math.round((BOX * side) / FIELD)));
    const [left, top] = placed(small, side);
    const pixels = new Float64Array(side * side);
    small.ink.forEach((value, at) => {
      const row = top + Math.floor(at / small.width);
      pixels[row * side + left + (at % small.width)] = value;
    });
    return pixels;
  }

  globalThis.xpnet = { loaded, logits, softmax, field };

  // The counts of the confusion matrix, below it.

  const readout = byId("readout");
  if (readout !== null) {
    if (matchMedia("(hover: none)").matches) {
      readout.textContent = readout.textContent.replace("Point at", "Tap");
    }
    const matrix = byId("confusion");
    const show = ({ target }) => {
      const title = target.closest(".cell")?.querySelector("title");
      if (title) readout.textContent = title.textContent;
    };
    matrix.addEventListener("pointerover", show);
    matrix.addEventListener("click", show);
  }

  // The field to draw in.

  const PEN = 48; // of the 560 pixels of the canvas: the ink of a digit is then what it is in MNIST

  function drawing() {
    const { side, full, names, network: saved } = JSON.parse(byId("network").textContent);
    const network = loaded(saved);
    if (activation === null) {
      const note = document.createElement("p");
      note.className = "note";
      note.textContent = `There is no field to draw in: this page does not know the activation ${network.activation}.`;
      byId("draw").replaceChildren(note);
      return;
    }
    const [pad, seen] = [byId("pad"), byId("seen")];
    const context = pad.getContext("2d", { willReadFrequently: true });
    const preview = seen.getContext("2d");
    const prompt = byId("reading").textContent;
    const strokes = [];
    let stroke = null;
    let scheduled = false;

    const bars = Array.from(network.layers.at(-1).bias, (_, index) => {
      const bar = document.createElement("li");
      const [label, rail, fill, share] = ["span", "span", "span", "span"].map((name) => document.createElement(name));
      label.textContent = names[index];
      [rail.className, fill.className, share.className] = ["rail", "fill", "share"];
      rail.append(fill);
      bar.append(label, rail, share);
      byId("bars").append(bar);
      return { bar, fill, share };
    });

    function line(points) {
      context.lineWidth = PEN;
      context.lineCap = "round";
      context.lineJoin = "round";
      context.beginPath();
      context.moveTo(points[0].x, points[0].y);
      points.forEach(({ x, y }) => context.lineTo(x, y));
      context.stroke();
    }

    function image() {
      const { data } = context.getImageData(0, 0, pad.width, pad.height);
      const ink = new Uint8Array(pad.width * pad.height);
      for (let at = 0; at < ink.length; at += 1) ink[at] = data[4 * at + 3];
      return { ink, width: pad.width, height: pad.height };
    }

    function showSeen(pixels) {
      const shown = preview.createImageData(side, side);
      pixels?.forEach((value, at) => { shown.data[4 * at + 3] = value; });
      preview.putImageData(shown, 0, 0);
    }

    function showBars(shares) {
      const first = shares ? shares.indexOf(Math.max(...shares)) : -1;
      bars.forEach(({ bar, fill, share }, index) => {
        bar.classList.toggle("first", index === first);
        fill.style.width = shares ? `${100 * shares[index]}%` : "0";
        share.textContent = shares ? percent(shares[index]) : "";
      });
      byId("reading").textContent = shares
        ? `Reads as ${names[first]}, with a probability of ${percent(shares[first])}.`
        : prompt;
    }

    const percent = (share) => `${(100 * share).toFixed(1)}\u00a0%`;

    function read() {
      scheduled = false;
      const pixels = field(image(), side);
      showSeen(pixels);
      showBars(pixels && softmax(logits(network, pixels.map((value) => (value / 255) * full))));
    }

    function changed() {
      byId("hint").hidden = strokes.length > 0;
      byId("undo").disabled = byId("clear").disabled = strokes.length === 0;
      if (!scheduled) {
        scheduled = true;
        requestAnimationFrame(read);
      }
    }

    function point(event) {
      const place = pad.getBoundingClientRect();
      return {
        x: ((event.clientX - place.left) / place.width) * pad.width,
        y: ((event.clientY - place.top) / place.height) * pad.height,
      };
    }

    function redraw() {
      context.clearRect(0, 0, pad.width, pad.height);
      strokes.forEach(line);
      changed();
    }

    pad.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || stroke !== null) return;
      event.preventDefault();
      pad.setPointerCapture(event.pointerId);
      stroke = { pointer: event.pointerId, points: [point(event)] };
      strokes.push(stroke.points);
      line(stroke.points);
      changed();
    });
    pad.addEventListener("pointermove", (event) => {
      if (stroke === null || event.pointerId !== stroke.pointer) return;
      const events = event.getCoalescedEvents?.() ?? [];
      const before = stroke.points.length - 1;
      stroke.points.push(...(events.length > 0 ? events : [event]).map(point));
      line(stroke.points.slice(before));
      changed();
    });
    ["pointerup", "pointercancel"].forEach((name) => {
      pad.addEventListener(name, (event) => {
        if (event.pointerId === stroke?.pointer) stroke = null;
      });
    });
    byId("undo").addEventListener("click", () => { strokes.pop(); redraw(); });
    byId("clear").addEventListener("click", () => { strokes.length = 0; redraw(); });
    showBars(null);
  }

  if (byId("network") !== null) drawing();
})();
