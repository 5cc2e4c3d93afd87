// The page: collects files, lets the worker train or verify, and shows what it reports.
"use strict";

const PUBLISHED = {
  0: "fcde2c8dad9bc18cbfc8f94e42f30bd0eb886692b2ea4d9a1c62a441a5a23787",
  1: "cff4885196c3e8e3b1058359ab49924d891040259429e21160224e43e5917264",
  10: "1fe3e250e0d0fba4f67bb4c77368e00a498e9984eef617924ef3fdf0c95719f6",
  100: "b00fc7558dade97bc173aadd7c73276e52148bdb0c44bb116c21efe0f4c64e61",
};
const DATA = /^(train|t10k)-(images|labels)[-.]idx[13]-ubyte(\.gz)?$|^[xy]_(train|test)\.npy$/;
const TRAINING_DATA = /^train-(images|labels)|^[xy]_train\.npy$/;
const WORDS = { same: "The same bits", differs: "Differs", refused: "Cannot be computed" };

const part = (id) => document.getElementById(id);
const url = URL.createObjectURL(new Blob([part("worker").textContent], { type: "text/javascript" }));
let held = [];
let worker = null;
let began = 0;
let points = [];

// Files

/** The files in what was dropped, those of folders included. */
async function filesOf(entry) {
  if (entry.isFile) return [await new Promise((done, fail) => entry.file(done, fail))];
  const [reader, all] = [entry.createReader(), []];
  for (;;) {
    const entries = await new Promise((done, fail) => reader.readEntries(done, fail)); // some at a time
    if (entries.length === 0) return all;
    for (const each of entries) all.push(...(await filesOf(each)));
  }
}

function hold(files) {
  held = [...held, ...files.filter(({ name }) => name !== "LICENSE.txt" && name !== "SHA256SUMS")];
  show();
}

function show() {
  const has = (pattern) => held.filter(({ name }) => pattern.test(name)).length;
  const [hasData, hasRun, isBusy] = [has(TRAINING_DATA) >= 2, has(/^run\.json$/) > 0, worker !== null];
  part("need-data").classList.toggle("there", has(DATA) >= 4);
  part("need-run").classList.toggle("there", hasRun);
  const names = held.map(({ name }) => name);
  part("held").textContent = names.length === 0 ? "No files yet." : `${names.length} files: ${names.join(", ")}`;
  part("train").disabled = isBusy || !hasData;
  part("verify").disabled = isBusy || !hasRun;
  part("stop").hidden = !isBusy;
  part("forget").disabled = isBusy || names.length === 0;
}

// The computation

function start(task) {
  worker = new Worker(url);
  began = performance.now();
  points = [];
  for (const id of ["epoch", "loss", "accuracy", "time"]) part(id).textContent = "–";
  part("progress").removeAttribute("value");
  part("state").textContent = "Reading the files…";
  part("verdict").hidden = true;
  part("work").hidden = false;
  part("figure").hidden = true;
  worker.onmessage = ({ data: { progress, result } }) => (result ? finish(task, result) : advance(progress));
  worker.onerror = (event) => finish(task, { outcome: "refused", line: event.message, notes: [] });
  worker.postMessage({ task, files: held, epochs: Number(part("epochs").value) });
  show();
}

let done = 0;
let total = 1;

function advance({ fraction, epoch, epochs, row }) {
  if (row) [done, total] = [epoch, epochs];
  part("progress").value = Math.min(1, (done + (fraction ?? 0)) / Math.max(total, 1));
  const seconds = (performance.now() - began) / 1000;
  part("time").textContent = duration(seconds);
  part("state").textContent = `Epoch ${done} of ${total} is computed.`;
  if (!row) return;
  part("epoch").textContent = epoch;
  if (row.train_loss === undefined) return;
  part("loss").textContent = row.train_loss.toFixed(4);
  part("accuracy").textContent = `${(100 * row.train_accuracy).toFixed(2)} %`;
  points.push([epoch, row.train_loss]);
  if (points.length > 1) draw();
}

const duration = (seconds) => (seconds < 60 ? `${seconds.toFixed(1)} s` : `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`);

function finish(task, result) {
  end();
  const [epochs, time] = [Number(part("epochs").value), duration((performance.now() - began) / 1000)];
  if (task === "train" && !result.outcome) describeTraining(result, epochs, time);
  part("progress").value = 1;
  part("time").textContent = time;
  part("state").textContent = result.outcome === "refused" ? "Ended." : `Computed in ${time}.`;
  part("work").hidden = result.outcome === "refused" && points.length === 0;
  part("verdict").hidden = false;
  part("verdict").className = `verdict ${result.outcome}`;
  part("word").textContent = result.word ?? WORDS[result.outcome];
  part("line").textContent = result.line;
  part("sha").textContent = result.fingerprint ?? "";
  part("sha").hidden = !result.fingerprint;
  part("notes").replaceChildren(...result.notes.map((note) => Object.assign(document.createElement("li"), { textContent: note })));
}

function describeTraining(result, epochs, time) {
  const published = PUBLISHED[epochs];
  const isSame = result.fingerprint === published;
  result.outcome = isSame ? "same" : published ? "differs" : "trained";
  result.word = { same: "The same bits as published", differs: "Other bits than published: are these the files of MNIST?", trained: "Trained" }[result.outcome];
  result.line = `The parameters after ${epochs} epochs have the SHA-256`;
  result.notes = [`${result.samples.toLocaleString("en")} images, ${time}.`];
  if (result.accuracy !== undefined) result.notes.unshift(`Test accuracy ${(100 * result.accuracy).toFixed(2)} %, loss ${result.loss.toFixed(4)}.`);
  if (!published) result.notes.push("Fingerprints of 0, 1, 10 and 100 epochs are published.");
}

function end() {
  worker?.terminate();
  worker = null;
  show();
}

// The loss curve

const [WIDTH, HEIGHT, LEFT, BOTTOM] = [640, 240, 48, 28];

function draw() {
  part("figure").hidden = false;
  const losses = points.map(([, loss]) => loss);
  const highest = Math.max(...losses);
  const x = (epoch) => LEFT + ((WIDTH - LEFT - 8) * epoch) / Math.max(total, 1);
  const y = (loss) => 10 + (HEIGHT - BOTTOM - 10) * (1 - loss / (highest * 1.02));
  const step = [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10].find((size) => highest / size <= 5) ?? highest / 4;
  const levels = Array.from({ length: Math.floor(highest / step) + 1 }, (_, n) => n * step);
  const shapes = levels.flatMap((level) => [
    shape("path", { d: `M${LEFT} ${y(level)}H${WIDTH - 8}`, class: "grid" }),
    text(LEFT - 8, y(level) + 4, level.toFixed(step < 1 ? 2 : 0), "end"),
  ]);
  for (const share of [0, 0.25, 0.5, 0.75, 1]) {
    const epoch = Math.round(share * total);
    if (share === 0 || epoch !== Math.round((share - 0.25) * total)) shapes.push(text(x(epoch), HEIGHT - 6, String(epoch), share === 1 ? "end" : "middle"));
  }
  const line = points.map(([epoch, loss]) => `${x(epoch).toFixed(1)} ${y(loss).toFixed(1)}`).join("L");
  const [epoch, loss] = points.at(-1);
  shapes.push(shape("path", { d: `M${line}`, class: "curve" }), shape("circle", { cx: x(epoch), cy: y(loss), r: 3.5, class: "dot" }));
  part("chart").replaceChildren(...shapes);
  part("chart").setAttribute("aria-label", `Loss by epoch, ${losses[0].toFixed(4)} at first, ${loss.toFixed(4)} after epoch ${epoch}`);
}

function shape(name, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

function text(x, y, content, anchor) {
  const element = shape("text", { x, y, "text-anchor": anchor });
  element.textContent = content;
  return element;
}

// Events

for (const [button, input] of [["choose-files", "files"], ["choose-folder", "folder"]]) {
  part(button).addEventListener("click", () => part(input).click());
  part(input).addEventListener("change", () => {
    hold([...part(input).files]);
    part(input).value = "";
  });
}
part("forget").addEventListener("click", () => {
  held = [];
  show();
});
part("train").addEventListener("click", () => part("epochs").reportValidity() && start("train"));
part("verify").addEventListener("click", () => start("verify"));
part("stop").addEventListener("click", () => {
  part("state").textContent = "Stopped.";
  end();
});
for (const name of ["dragover", "dragleave", "drop"]) {
  addEventListener(name, (event) => {
    event.preventDefault();
    part("drop").classList.toggle("over-it", name === "dragover");
  });
}
addEventListener("drop", async (event) => {
  const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
  for (const entry of entries) hold(await filesOf(entry));
});
show();
