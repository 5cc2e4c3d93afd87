// The exercises of docs/course, solved; the tests plant mistakes here.
import { readFileSync } from "node:fs";
import { exp, fingerprint, fold, log, map, matmul, readIdx, sqrt, sumSamples, transpose, tree } from "../../docs/course/given.mjs";

// 1. A layer as a product
function layer({ W, A, b }) {
  return { Z: map((z, bias) => z + bias, matmul(W, A), b) };
}

// 2. ReLU and softmax
function activate({ Z }) {
  const columns = transpose(Z).map((z) => {
    const largest = Math.max(...z);
    const e = z.map((value) => exp(value - largest));
    const reciprocal = 1 / fold(e);
    return e.map((value) => value * reciprocal);
  });
  return { relu: map((z) => Math.max(z, 0), Z), softmax: transpose(columns) };
}

// 3. Cross-entropy
function loss({ Z, Y }) {
  const losses = transpose(Z).map((z, j) => {
    const largest = Math.max(...z);
    const s = fold(z.map((value) => exp(value - largest)));
    return log(s) - (z[Y[j]] - largest);
  });
  return { losses, mean: fold(losses) * (1 / Y.length) };
}

// 4. Backpropagation by hand
function backward({ W2, X, Z1, A1, A2, Y, m }) {
  const dZ2 = A2.map((row, i) => Array.from(row, (a, j) => a - (Y[j] === i ? 1 : 0)));
  const dA1 = matmul(transpose(W2), dZ2);
  const dZ1 = map((da, z) => (z > 0 ? da : 0), dA1, Z1);
  const mean = (sums) => map((sum) => sum * (1 / m), sums);
  const [dW1, db1] = [matmul(dZ1, transpose(X)), sumSamples(dZ1, X)].map(mean);
  const [dW2, db2] = [matmul(dZ2, transpose(A1)), sumSamples(dZ2, A1)].map(mean);
  return { dW1, db1, dW2, db2 };
}

// 5. The update
const stepped = (p, gradient, rate) => map((x, g) => x - rate * g, p, gradient);

function update({ W, b, dW, db, rates }) {
  rates.forEach((rate, t) => {
    W = stepped(W, dW[t], rate);
    b = stepped(b, db[t], rate);
  });
  return { W, b };
}

// 6. A whole epoch
const named = ([W1, b1, W2, b2]) => ({ W1, b1, W2, b2 });

function gradientOf([W1, b1, W2, b2], X, Y) {
  const blocks = [];
  for (let at = 0; at < Y.length; at += 1024) {
    const [x, y] = [X.map((row) => row.subarray(at, at + 1024)), Y.slice(at, at + 1024)];
    const Z1 = layer({ W: W1, A: x, b: b1 }).Z;
    const A1 = activate({ Z: Z1 }).relu;
    const A2 = activate({ Z: layer({ W: W2, A: A1, b: b2 }).Z }).softmax;
    const { dW1, db1, dW2, db2 } = backward({ W2, X: x, Z1, A1, A2, Y: y, m: 1 });
    blocks.push([dW1, db1, dW2, db2]);
  }
  const totals = blocks[0].map((_, n) => tree(blocks.map((block) => block[n])));
  return totals.map((total) => map((sum) => sum * (1 / Y.length), total));
}

function train({ W1, b1, W2, b2, X, Y, alpha, epochs }) {
  let network = [W1, b1, W2, b2];
  for (let epoch = 1; epoch <= epochs; epoch++) {
    const gradient = gradientOf(network, X, Y);
    network = network.map((p, n) => stepped(p, gradient[n], alpha));
  }
  return named(network);
}

// Training on the files of MNIST, with the samples in an order: this one is complete.
function mnist({ images, labels, order, ...start }) {
  const [pixels, classes] = [readIdx(images), readIdx(labels)];
  const X = transpose(order.map((sample) => pixels[sample]));
  const { W1, b1, W2, b2 } = train({ X, Y: order.map((sample) => classes[sample]), ...start });
  return { fingerprint: fingerprint([W1, b1, W2, b2]) };
}

// 7. Mini-batches and their order
function batches({ W1, b1, W2, b2, X, Y, words, size, alpha, epochs }) {
  let network = [W1, b1, W2, b2];
  const [visited, positions] = [[], Y.map((_, j) => j)];
  for (let epoch = 1; epoch <= epochs; epoch++) {
    const keys = words[epoch];
    const order = positions.slice().sort((i, j) => (keys[i] < keys[j] ? -1 : 1));
    const parts = [];
    for (let at = 0; at < order.length; at += size) parts.push(order.slice(at, at + size));
    for (const part of parts) {
      const x = X.map((row) => Uint8Array.from(part, (j) => row[j]));
      const y = part.map((j) => Y[j]);
      const gradient = gradientOf(network, x, y);
      network = network.map((p, n) => stepped(p, gradient[n], alpha));
    }
    visited.push(parts);
  }
  return { batches: visited, ...named(network) };
}

// 8. Momentum and Adam
function momentum(p, gradients, rates, decay) {
  let v = map(() => 0, p);
  rates.forEach((rate, t) => {
    const g = decay > 0 ? map((dp, x) => dp + decay * x, gradients[t], p) : gradients[t];
    v = map((old, dp) => 0.9 * old + dp, v, g);
    p = stepped(p, v, rate);
  });
  return p;
}

function adam(p, gradients, rates, decay) {
  let [m, v, c1, c2] = [map(() => 0, p), map(() => 0, p), 0, 0];
  rates.forEach((rate, t) => {
    const g = decay > 0 ? map((dp, x) => dp + decay * x, gradients[t], p) : gradients[t];
    m = map((old, dp) => 0.9 * old + (1 - 0.9) * dp, m, g);
    v = map((old, dp) => 0.999 * old + (1 - 0.999) * (dp * dp), v, g);
    c1 = 0.9 * c1 + (1 - 0.9);
    c2 = 0.999 * c2 + (1 - 0.999);
    const alpha = rate * (1 / c1);
    p = map((x, first, second) => x - alpha * (first / (sqrt(second * (1 / c2)) + 1e-8)), p, m, v);
  });
  return p;
}

function optimize({ kind, W, b, dW, db, rates, decay }) {
  const method = kind === "adam" ? adam : momentum;
  return { W: method(W, dW, rates, decay), b: method(b, db, rates, 0) };
}

// 9. Dropout
function drop({ A, dA, numbers, p }) {
  const q = Math.min(p * 65536 + 2 ** 52 - 2 ** 52, 65535); // ties to even
  const s = 65536 / (65536 - q);
  const masked = (values) => map((a, number) => (number < q ? 0 : a * s), values, numbers);
  return { A: masked(A), dA: masked(dA), predicted: A };
}

// 10. Batch normalisation
function normalize({ Z, dY, gamma, beta, mean, variance }) {
  const h = 1 / Z[0].length;
  const total = (rows) => rows.map((row) => [fold(row)]);
  const S = total(Z);
  const centred = map((z, sum) => z - sum * h, Z, S);
  const Q = total(map((c) => c * c, centred));
  const r = map((sum) => 1 / sqrt(sum * h + 1e-5), Q);
  const hat = map((c, factor) => c * factor, centred, r);
  const dgamma = total(map((dy, z) => dy * z, dY, hat));
  const dbeta = total(dY);
  const dZ = map((dy, z, g, f, dg, db) => g * f * (dy - (db + z * dg) * h), dY, hat, gamma, r, dgamma, dbeta);
  const scale = map((v) => 1 / sqrt(v + 1e-5), variance);
  return {
    Y: map((z, g, b) => g * z + b, hat, gamma, beta),
    ...{ dZ, dgamma, dbeta },
    mean: map((old, sum) => old + (sum * h - old) * 0.1, mean, S),
    variance: map((old, sum) => old + (sum * (1 / (Z[0].length - 1)) - old) * 0.1, variance, Q),
    predicted: map((z, g, b, mu, f) => g * ((z - mu) * f) + b, Z, gamma, beta, mean, scale),
  };
}

// A task is the name of a function, and cases: the arguments of its calls. The answer is a list of the results.
const functions = { layer, activate, loss, backward, update, train, mnist, batches, optimize, drop, normalize };
const task = JSON.parse(readFileSync(0, "utf8"));
for (const values of task.cases) { // an X of whole numbers has pixels
  if (values.X?.flat().every(Number.isInteger)) values.X = values.X.map((row) => Uint8Array.from(row));
}
console.log(write(task.cases.map(functions[task.function])));

function write(value) { // as JSON.stringify, which makes 0 of -0
  if (Object.is(value, -0)) return "-0.0";
  if (typeof value !== "object" || value === null) return JSON.stringify(value) ?? "null";
  if (Symbol.iterator in value) return `[${Array.from(value, write)}]`;
  return `{${Object.entries(value).map(([name, part]) => `${JSON.stringify(name)}:${write(part)}`)}}`;
}
