// Compares examples/browser/xpnet.js with the parts of docs/vectors; prints the cases by part, and those that differ.
import { readFileSync } from "node:fs";
import { isDeepStrictEqual } from "node:util";

const [module, folder] = process.argv.slice(2);
const x = await import(module);
const read = (name) => JSON.parse(readFileSync(`${folder}/${name}.json`, "utf8"));
const [random, functions, contractions, sums, network, images] = ["random", "functions", "contractions", "sums", "network", "images"].map(read);
const counts = {};
const different = [];

/** Floats of texts, of lists, and of vectors that repeat a pattern. */
function numbers(value) {
  if (Array.isArray(value)) return value.map(numbers);
  if (typeof value === "string") return x.readFloat(value);
  if (value?.repeat) return Array.from({ length: value.length }, (_, n) => numbers(value.repeat[n % value.repeat.length]));
  return value;
}
const plain = (value) => {
  if (value instanceof x.Matrix) return Array.from({ length: value.rows }, (_, i) => [...value.row(i)]);
  return ArrayBuffer.isView(value) ? [...value] : Array.isArray(value) ? value.map(plain) : value;
};
const matrix = (rows) => new x.Matrix(rows.length, rows[0].length, Float64Array.from(numbers(rows).flat()));
const columns = (vectors) => matrix(vectors).transposed();
const column = (values) => numbers(values).flat();

function check(part, computed, expected) { // Object.is: zeros have signs, and all NaN are equal
  counts[part] = (counts[part] ?? 0) + 1;
  if (!isDeepStrictEqual(plain(computed), numbers(expected))) different.push([part, plain(computed), expected]);
}

for (const { counter, key, words } of random.uses) {
  check("uses", x.philox(counter.map(BigInt), key.map(BigInt)).map((word) => word === BigInt(words.shift())), Array(4).fill(true));
}
for (const { seed, purpose, epoch, index, "first c0": first, words } of random.streams) {
  check("streams", [...x.words(seed, purpose, index, epoch, 2, first)].map((word, n) => word === BigInt(words[n])), Array(8).fill(true));
}
for (const [word, u] of random.numbers) check("numbers", x.uniform(BigInt(word)), u);
for (const { seed, epoch, samples, order } of random.orders) check("orders", x.orderOf(seed, epoch, samples), order);
for (const { init, seed, sizes, weights, biases } of random["initial parameters"]) {
  const layers = weights.map((_, i) => x.initialLayer(init, seed, i, sizes[i], sizes[i + 1]));
  check("initial parameters", layers.map(({ W }) => W), weights);
  check("initial parameters", layers.map(({ b }) => b), biases);
}
for (const { seed, index, epoch, units, probability, q, s, dropped, "first sample": first } of random.dropout) {
  const mask = x.dropMask(q, seed, index, epoch, units, first, dropped.length).transposed();
  const units_ = dropped.map((_, j) => [...mask.row(j).keys()].filter((u) => mask.row(j)[u] === 1));
  check("dropout", [x.dropShare(numbers(probability)), x.keptFactor(q), units_], [q, s, dropped]);
}
for (const [part, purpose] of [["validation samples", 5], ["test samples", 6]]) {
  for (const { seed, samples, setting, "held out": held, remaining } of random[part]) {
    check(part, x.holdOut(numbers(setting), seed, samples, purpose), [held, remaining]);
  }
}
for (const name of ["exp", "log", "sqrt", "tanh"]) for (const [z, y] of functions[name]) check(name, x[name](x.readFloat(z)), y);
for (const [z, y] of functions.sigmoid) check("sigmoid", x.ACTIVATIONS.sigmoid[0](x.readFloat(z)), y);
for (const [degrees, ...both] of functions["sine and cosine"]) check("sine and cosine", x.sinAndCos(x.readFloat(degrees)), both);
for (const [f, n, result] of functions.powers) check("powers", x.power(numbers(f), n), result);
for (const [t, T, c] of functions["cosine shares"]) check("cosine shares", x.cosineShare(t, T), c);
for (const { steps, rates, factor = null, step_epochs: P = null, ...rest } of functions["learning rates"]) {
  const settings = { schedule_factor: numbers(factor), schedule_step_epochs: P, warmup_epochs: 0, ...rest };
  settings.learning_rate = numbers(rest.learning_rate);
  check("learning rates", rates.map((_, t) => x.learningRate(settings, t, steps)), rates);
}
for (const { logits, probabilities } of functions.softmax) check("softmax", x.softmax(columns([logits])).a, columns([probabilities]) && probabilities.map((p) => [p]));
for (const [terms, floats, pixels] of contractions.budgets) {
  const bits = (ofPixels) => ((b) => b && [b.first, b.second, b.slices])(x.budget(terms, ofPixels));
  check("budgets", [bits(false), bits(true)], [floats, pixels]);
}
const pixelsOf = (rows, factor) => x.Pixels.from(Uint8Array.from(numbers(rows).flat()), numbers(rows[0]).length, numbers(factor));
for (const { rows, columns: b, factor, product } of contractions.products) {
  check("products", x.product(matrix(numbers(rows)), factor ? pixelsOf(b, factor) : columns(numbers(b))), product);
}
for (const { rows, columns: b, factor, product, sums: expected } of contractions.gradients) {
  const a = factor ? pixelsOf(columns(numbers(b)).rows === 0 ? [] : transposed(numbers(b)), factor) : matrix(numbers(b));
  const [dW, db] = x.productOverSamples(matrix(numbers(rows)), a);
  check("gradients", [dW, db], [product, expected]);
}
function transposed(rows) {
  return rows[0].map((_, j) => rows.map((row) => row[j]));
}
for (const { terms, sum } of sums.folded) check("folded", x.foldedSum(numbers(terms)), sum);
for (const { blocks, sum } of sums.tree) check("tree", x.treeSum(blocks.length, (n) => [Float64Array.of(numbers(blocks[n]))])[0][0], sum);
for (const [value, flushed] of sums["[x]"]) check("[x]", x.flush(x.readFloat(value)), flushed);
for (const [samples, each] of sums.blocks) check("blocks", x.blocks(samples).map(([begin, end]) => end - begin), each);
for (const { normalize, features, x: rows, shift, scale } of network.normalization ?? network.normalisation) {
  const isPixels = features === "pixels";
  const data = (isPixels ? Uint8Array : Float64Array).from(numbers(rows).flat());
  const found = x.fitNormalization(normalize, { x: data, features: rows[0].length, isPixels }, [...rows.keys()]);
  check("normalisation", [found.shift, found.scale], [shift, scale]);
}
for (const { labels, weights, class_weight: kind, factors } of network.weights) {
  check("weights", x.sampleFactors(labels, kind, numbers(weights)), factors);
}
for (const { loss, label_smoothing: smoothing, z, labels, y, losses, sum, dz } of network.losses) {
  const [parts, targets] = [x.softmax(matrix(z)), x.targets(labels, z.length, numbers(smoothing))];
  const each = x.losses(loss, parts, targets);
  check("losses", [targets, each, x.foldedSum(each), x.outputGradient(loss, parts, targets)], [y, losses, sum, dz]);
}
for (const [name, cases] of Object.entries(network.activations)) {
  const [activate, back] = x.ACTIVATIONS[name];
  for (const [z, da, a, dz] of cases.map(numbers)) check("activations", [activate(z), back(da, z, a)], [a, dz]);
}
for (const c of network["batch normalisation"]) {
  const [gamma, beta, mean, variance] = ["gamma", "beta", "mean before", "variance before"].map((name) => Float64Array.from(column(c[name])));
  const norm = { gamma, beta, mean, variance };
  check("batch normalisation", x.normalizeByStatistics(norm, matrix(c.z)), c["y in evaluation"]);
  const block = x.normalizeBlock(norm, matrix(c.z));
  const { dz, dgamma, dbeta } = x.normalizeBackward(norm, block, matrix(c.dy));
  x.updateStatistics(norm, block.S, block.Q, c.z[0].length, 1);
  const flat = [dgamma, dbeta, norm.mean, norm.variance];
  check("batch normalisation", [block.y, dz, ...flat], [c.y, c.dz, ...["dgamma", "dbeta", "mean after", "variance after"].map((name) => column(c[name]))]);
}
for (const { settings, W, b, steps } of network.optimisers) {
  const none = { momentum: null, weight_decay: null, clip_norm: null, max_norm: null };
  const parameters = [{ p: matrix(W).data, units: W.length }, { p: Float64Array.from(column(b)), units: 0 }];
  const known = Object.entries({ ...none, ...settings }).map(([name, value]) => [name, numbers(value) ?? value]);
  const update = x.buildOptimizer(Object.fromEntries(known), parameters);
  for (const step of steps) {
    update([matrix(step.dW).data, Float64Array.from(column(step.db))], numbers(step.rate));
    check("optimisers", parameters.map(({ p }) => p), [step.W.flat(), step.b.flat()]);
  }
}
for (const { side, sigma, "first row": row } of images.G) check("G", x.smoothing(side, numbers(sigma)).row(0), row);
for (const { settings, seed, epoch, index, image, result } of images.variants) {
  const none = Object.fromEntries(["shift", "rotate", "scale", "shear", "elastic_alpha", "thickness"].map((name) => [`augment_${name}`, 0]));
  const all = { ...none, augment_elastic_sigma: null, augment_fade_epochs: 0, epochs: 0, seed };
  for (const [name, value] of Object.entries(settings)) all[name] = numbers(value);
  check("variants", x.variant(all, Uint8Array.from(image.flat()), epoch, index), result.flat());
}
console.log(JSON.stringify({ counts, different: different.slice(0, 20) }));
