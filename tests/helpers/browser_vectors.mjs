// Compares examples/browser/xpnet.js with the parts of docs/vectors: node browser_vectors.mjs MODULE FOLDER
// Prints the number of cases of each part, and the cases that differ, as JSON.
import { readFileSync } from "node:fs";
import { isDeepStrictEqual } from "node:util";

const [module, folder] = process.argv.slice(2);
const x = await import(module);

function numbers(value) { // floats of texts, also in lists and in vectors that repeat a pattern
  if (Array.isArray(value)) return value.map(numbers);
  if (typeof value === "string") return x.readFloat(value) ?? value;
  if (!value?.repeat) return value;
  return Array.from({ length: value.length }, (_, n) => numbers(value.repeat[n % value.repeat.length]));
}

function plain(value) {
  if (value instanceof x.Matrix) return Array.from({ length: value.rows }, (_, i) => [...value.row(i)]);
  return ArrayBuffer.isView(value) ? [...value] : Array.isArray(value) ? value.map(plain) : value;
}

const matrix = (rows) => new x.Matrix(rows.length, rows[0].length, Float64Array.from(rows.flat()));
const flat = (rows) => Float64Array.from(rows.flat());
const read = (values) => Object.fromEntries(Object.entries(values).map(([name, value]) => [name, numbers(value)]));
const pixels = (samples, factor) => x.Pixels.from(Uint8Array.from(samples.flat()), samples[0].length, factor);
const bits = (shares) => shares && [shares.first, shares.second, shares.slices];
const words = (texts) => texts.map(BigInt);
const pair = (f) => ([input, output]) => [f(input), output];
const split = (purpose) => ({ seed, samples, setting, "held out": held, remaining }) => [
  x.holdOut(setting, seed, samples, purpose), [held, remaining],
];
const NO_SETTINGS = { momentum: null, weight_decay: null, clip_norm: null, max_norm: null };
const NO_CHANGE = { augment_shift: 0, augment_rotate: 0, augment_scale: 0, augment_shear: 0, augment_elastic_alpha: 0 };
Object.assign(NO_CHANGE, { augment_elastic_sigma: null, augment_thickness: 0, augment_fade_epochs: 0, epochs: 0 });

/** Computed and expected values of a case, with floats for texts, of each part. */
const PARTS = {
  uses: ({ counter, key, words: drawn }) => [x.philox(words(counter), words(key)), words(drawn)],
  streams: ({ seed, purpose, epoch, index, "first c0": first, words: drawn }) => [
    x.words(seed, purpose, index, epoch, 2, first), words(drawn),
  ],
  numbers: ([word, u]) => [x.uniform(BigInt(word)), u],
  orders: ({ seed, epoch, samples, order }) => [x.orderOf(seed, epoch, samples), order],
  "initial parameters": ({ init, seed, sizes, weights, biases }) => {
    const layers = weights.map((_, i) => x.initialLayer(init, seed, i, sizes[i], sizes[i + 1]));
    return [[layers.map(({ W }) => W), layers.map(({ b }) => b)], [weights, biases]];
  },
  dropout: ({ seed, index, epoch, units, probability, q, s, dropped, "first sample": first }) => {
    const samples = plain(x.dropMask(q, seed, index, epoch, units, first, dropped.length).transposed());
    const found = samples.map((mask) => [...mask.keys()].filter((unit) => mask[unit] === 1));
    return [[x.dropShare(probability), x.keptFactor(q), found], [q, s, dropped]];
  },
  "validation samples": split(5),
  "test samples": split(6),
  ...Object.fromEntries(["exp", "log", "sqrt", "tanh"].map((name) => [name, pair(x[name])])),
  sigmoid: pair(x.ACTIVATIONS.sigmoid[0]),
  "[x]": pair(x.flush),
  blocks: pair((samples) => x.blocks(samples).map(([begin, end]) => end - begin)),
  "sine and cosine": ([degrees, ...both]) => [x.sinAndCos(degrees), both],
  powers: ([f, n, result]) => [x.power(f, n), result],
  "cosine shares": ([t, T, c]) => [x.cosineShare(t, T), c],
  "learning rates": ({ steps, rates, factor = null, step_epochs: P = null, ...rest }) => {
    const settings = { schedule_factor: factor, schedule_step_epochs: P, warmup_epochs: 0, ...rest };
    return [rates.map((_, t) => x.learningRate(settings, t, steps)), rates];
  },
  softmax: ({ logits, probabilities }) => [x.softmax(matrix([logits]).transposed()).a.transposed().row(0), probabilities],
  budgets: ([terms, floats, ofPixels]) => [[bits(x.budget(terms)), bits(x.budget(terms, true))], [floats, ofPixels]],
  products: ({ rows, columns, factor, product }) => [
    x.product(matrix(rows), factor ? pixels(columns, factor) : matrix(columns).transposed()), product,
  ],
  gradients: ({ rows, columns, factor, product, sums }) => [
    x.productOverSamples(matrix(rows), factor ? pixels(plain(matrix(columns).transposed()), factor) : matrix(columns)),
    [product, sums],
  ],
  folded: ({ terms, sum }) => [x.foldedSum(terms), sum],
  tree: ({ blocks, sum }) => [x.treeSum(blocks.length, (n) => [Float64Array.of(blocks[n])]), [[sum]]],
  normalisation: ({ normalize, features, x: rows, shift, scale }) => {
    const isPixels = features === "pixels";
    const samples = { x: isPixels ? Uint8Array.from(rows.flat()) : flat(rows), features: rows[0].length, isPixels };
    const fitted = x.fitNormalization(normalize, samples, [...rows.keys()]);
    return [[fitted.shift, fitted.scale], [shift, scale]];
  },
  weights: ({ labels, weights, class_weight: kind, factors }) => [x.sampleFactors(labels, kind, weights), factors],
  losses: ({ loss, label_smoothing: smoothing, z, labels, y, losses, sum, dz }) => {
    const [parts, targets] = [x.softmax(matrix(z)), x.targets(labels, z.length, smoothing)];
    const each = x.losses(loss, parts, targets);
    return [[targets, each, x.foldedSum(each), x.outputGradient(loss, parts, targets)], [y, losses, sum, dz]];
  },
  activations: ([name, cases]) => [
    cases.map(([z, da, a]) => [x.ACTIVATIONS[name][0](z), x.ACTIVATIONS[name][1](da, z, a)]),
    cases.map(([, , a, dz]) => [a, dz]),
  ],
  "batch normalisation": (c) => {
    const [mean, variance] = [flat(c["mean before"]), flat(c["variance before"])];
    const norm = { gamma: flat(c.gamma), beta: flat(c.beta), mean, variance };
    const evaluated = x.normalizeByStatistics(norm, matrix(c.z));
    const block = x.normalizeBlock(norm, matrix(c.z));
    const { dz, dgamma, dbeta } = x.normalizeBackward(norm, block, matrix(c.dy));
    x.updateStatistics(norm, block.S, block.Q, c.z[0].length, 1);
    const rows = ["dgamma", "dbeta", "mean after", "variance after"].map((name) => c[name].flat());
    return [[evaluated, block.y, dz, dgamma, dbeta, mean, variance], [c["y in evaluation"], c.y, c.dz, ...rows]];
  },
  optimisers: ({ settings, W, b, steps }) => {
    const parameters = [{ p: flat(W), units: W.length }, { p: flat(b), units: 0 }];
    const update = x.buildOptimizer({ ...NO_SETTINGS, ...read(settings) }, parameters);
    const found = steps.map(read).map(({ dW, db, rate }) => {
      update([flat(dW), flat(db)], rate);
      return parameters.map(({ p }) => [...p]);
    });
    return [found, steps.map(read).map((step) => [step.W.flat(), step.b.flat()])];
  },
  G: ({ side, sigma, "first row": row }) => [x.smoothing(side, sigma).row(0), row],
  variants: ({ settings, seed, epoch, index, image, result }) => [
    x.variant({ ...NO_CHANGE, ...read(settings), seed }, Uint8Array.from(image.flat()), epoch, index), result.flat(),
  ],
};

const [counts, different] = [{}, []];
for (const name of ["random", "functions", "contractions", "sums", "network", "images"]) {
  for (const [part, cases] of Object.entries(JSON.parse(readFileSync(`${folder}/${name}.json`, "utf8")))) {
    if (part === "specification") continue;
    const list = Array.isArray(cases) ? cases : Object.entries(cases);
    counts[part] = list.length;
    for (const each of list) {
      const [computed, expected] = PARTS[part](Array.isArray(each) ? numbers(each) : read(each));
      if (!isDeepStrictEqual(plain(computed), expected)) different.push([part, each]); // by Object.is
    }
  }
}
console.log(JSON.stringify({ counts, different: different.slice(0, 9) }));
