// Does a task of examples/browser in Node.js and prints the result as JSON: node browser.mjs TASK PATH …
import { readFileSync, readdirSync } from "node:fs";
import { isDeepStrictEqual } from "node:util";
import * as x from "../../examples/browser/xpnet.js";
import { trainDefault, verify } from "../../examples/browser/verify.js";

const readJson = (path) => JSON.parse(readFileSync(path, "utf8"));
const bytesOf = (path) => async () => new Uint8Array(readFileSync(path));
const filesOf = (path) => readdirSync(path).map((name) => ({ name, read: bytesOf(`${path}/${name}`) }));
const repeated = ({ repeat, length }) => Array.from({ length }, (_, n) => numbers(repeat[n % repeat.length]));
function numbers(value) { // floats of texts, also in lists and in vectors that repeat a pattern
  if (Array.isArray(value)) return value.map(numbers);
  return typeof value === "string" ? (x.readFloat(value) ?? value) : value?.repeat ? repeated(value) : value;
}
const rowsOf = (matrix) => Array.from({ length: matrix.rows }, (_, i) => [...matrix.row(i)]);
const list = (value) => (ArrayBuffer.isView(value) ? [...value] : Array.isArray(value) ? value.map(plain) : value);
const plain = (value) => (value instanceof x.Matrix ? rowsOf(value) : list(value));
const matrix = (rows) => new x.Matrix(rows.length, rows[0].length, Float64Array.from(rows.flat()));
const flat = (rows) => Float64Array.from(rows.flat());
const read = (values) => Object.fromEntries(Object.entries(values).map(([name, value]) => [name, numbers(value)]));
const pixels = (samples, factor) => x.Pixels.from(Uint8Array.from(samples.flat()), samples[0].length, factor);
const bits = (shares) => shares && [shares.first, shares.second, shares.slices];
const words = (texts) => texts.map(BigInt);
const pair = (f) => ([input, output]) => [f(input), output];
const split = (purpose) => (c) => [x.holdOut(c.setting, c.seed, c.samples, purpose), [c["held out"], c.remaining]];
const NONE = { momentum: null, weight_decay: null, clip_norm: null, max_norm: null, augment_elastic_sigma: null };
for (const name of ["shift", "rotate", "scale", "shear", "elastic_alpha", "thickness", "fade_epochs"]) NONE[`augment_${name}`] = 0;
/** Computed and expected values of a case of each part of the test vectors, with floats for texts. */
const PARTS = {
  ...Object.fromEntries(["exp", "log", "sqrt", "tanh"].map((name) => [name, pair(x[name])])),
  sigmoid: pair(x.ACTIVATIONS.sigmoid[0]),
  "[x]": pair(x.flush),
  blocks: pair((samples) => x.blocks(samples).map(([begin, end]) => end - begin)),
  uses: ({ counter, key, words: drawn }) => [x.philox(words(counter), words(key)), words(drawn)],
  streams: (c) => [x.words(c.seed, c.purpose, c.index, c.epoch, 2, c["first c0"]), words(c.words)],
  numbers: ([word, u]) => [x.uniform(BigInt(word)), u],
  orders: ({ seed, epoch, samples, order }) => [x.orderOf(seed, epoch, samples), order],
  "initial parameters": ({ init, seed, sizes, weights, biases }) => {
    const layers = weights.map((_, i) => x.initialLayer(init, seed, i, sizes[i], sizes[i + 1]));
    return [layers.map(({ W, b }) => [W, b]), weights.map((weight, i) => [weight, biases[i]])];
  },
  dropout: ({ seed, index, epoch, units, probability, q, s, dropped, ...rest }) => {
    const mask = plain(x.dropMask(q, seed, index, epoch, units, rest["first sample"], dropped.length).transposed());
    const found = mask.map((row) => [...row.keys()].filter((unit) => row[unit] === 1));
    return [[x.dropShare(probability), x.keptFactor(q), found], [q, s, dropped]];
  },
  "validation samples": split(5),
  "test samples": split(6),
  "sine and cosine": ([degrees, ...both]) => [x.sinAndCos(degrees), both],
  powers: ([f, n, result]) => [x.power(f, n), result],
  "cosine shares": ([t, T, c]) => [x.cosineShare(t, T), c],
  "learning rates": ({ steps, rates, factor = null, step_epochs: P = null, ...rest }) => {
    const settings = { schedule_factor: factor, schedule_step_epochs: P, warmup_epochs: 0, ...rest };
    return [rates.map((_, t) => x.learningRate(settings, t, steps)), rates];
  },
  softmax: ({ logits, probabilities }) => [x.softmax(matrix([logits]).transposed()).a.data, probabilities],
  budgets: ([terms, floats, ofPixels]) => [[bits(x.budget(terms)), bits(x.budget(terms, true))], [floats, ofPixels]],
  products: (c) => [x.product(matrix(c.rows), c.factor ? pixels(c.columns, c.factor) : matrix(c.columns).transposed()), c.product],
  gradients: ({ rows, columns, factor, product, sums }) => {
    const a = factor ? pixels(plain(matrix(columns).transposed()), factor) : matrix(columns);
    return [x.productOverSamples(matrix(rows), a), [product, sums]];
  },
  folded: ({ terms, sum }) => [x.foldedSum(terms), sum],
  tree: ({ blocks, sum }) => [x.treeSum(blocks.length, (n) => [Float64Array.of(blocks[n])]), [[sum]]],
  normalisation: ({ normalize, features: kind, x: rows, shift, scale }) => {
    const [isPixels, features, Values] = [kind === "pixels", rows[0].length, { pixels: Uint8Array, floats: Float64Array }[kind] ?? Float32Array];
    const values = isPixels ? Values.from(rows.flat()) : x.toDoubles(Values.from(rows.flat()));
    const fitted = x.fitNormalization(normalize, { x: values, features, isPixels }, [...rows.keys()]);
    return [[fitted.shift, fitted.scale], [shift, scale]];
  },
  weights: ({ labels, weights, class_weight: kind, factors }) => [x.sampleFactors(labels, kind, x.weights(labels, weights)), factors],
  losses: ({ loss, label_smoothing: smoothing, z, labels, y, losses, sum, dz }) => {
    const [a, targets] = [x.softmax(matrix(z)), x.targets(labels, z.length, smoothing)];
    const each = x.losses(loss, a, targets);
    return [[targets, each, x.foldedSum(each), x.outputGradient(loss, a, targets)], [y, losses, sum, dz]];
  },
  activations: ([name, cases]) => {
    const [activate, back] = x.ACTIVATIONS[name];
    return [cases.map(([z, da, a]) => [activate(z), back(da, z, a)]), cases.map(([, , a, dz]) => [a, dz])];
  },
  "batch normalisation": (c) => {
    const [gamma, beta, mean, variance] = ["gamma", "beta", "mean before", "variance before"].map((name) => flat(c[name]));
    const norm = { gamma, beta, mean, variance };
    const [evaluated, block] = [x.normalizeByStatistics(norm, matrix(c.z)), x.normalizeBlock(norm, matrix(c.z))];
    const { dz, dgamma, dbeta } = x.normalizeBackward(norm, block, matrix(c.dy));
    x.updateStatistics(norm, block.S, block.Q, c.z[0].length, 1);
    const rows = ["dgamma", "dbeta", "mean after", "variance after"].map((name) => c[name].flat());
    return [[evaluated, block.y, dz, dgamma, dbeta, mean, variance], [c["y in evaluation"], c.y, c.dz, ...rows]];
  },
  optimisers: ({ settings, W, b, steps }) => {
    const parameters = [{ p: flat(W), units: W.length }, { p: flat(b), units: 0 }];
    const update = x.buildOptimizer({ ...NONE, ...read(settings) }, parameters);
    return steps.map(read).map((step) => {
      update([flat(step.dW), flat(step.db)], step.rate);
      return [parameters.map(({ p }) => [...p]), [step.W.flat(), step.b.flat()]];
    }).reduce(([a, b], [c, d]) => [[...a, c], [...b, d]], [[], []]);
  },
  G: ({ side, sigma, "first row": row }) => [x.smoothing(side, sigma).row(0), row],
  variants: ({ settings, seed, epoch, index, image, result }) => {
    const pixels8 = Uint8Array.from(image.flat());
    return [x.variant({ ...NONE, epochs: 0, ...read(settings), seed }, pixels8, epoch, index), result.flat()];
  },
};
const isSame = ([computed, expected]) => isDeepStrictEqual(plain(computed), expected); // by Object.is
const TASKS = { // the numbers of equal cases and of all, of each part; results or errors; outcomes
  vectors: (...paths) => Object.fromEntries(paths.flatMap((path) => Object.entries(readJson(path))).flatMap(([part, cases]) => {
    const all = Array.isArray(cases) ? cases : Object.entries(cases);
    const same = (each) => isSame(PARTS[part](Array.isArray(each) ? numbers(each) : read(each)));
    return part === "specification" ? [] : [[part, [all.filter(same).length, all.length]]];
  })),
  trainings: (path) => readJson(path).trainings.map((training) => {
    try {
      return x.train(training, readJson(path));
    } catch (error) {
      return error.message;
    }
  }),
  default: async (path, epochs) => {
    const fingerprints = [];
    const report = ({ row }) => row && fingerprints.push(row.fingerprint);
    const { digest } = await trainDefault(filesOf(path), Number(epochs), report);
    return { fingerprints, digest };
  },
  verify: (...paths) => { // of runs, each a path of the run and one of its data
    const runs = paths.filter((_, n) => n % 2 === 0);
    return Promise.all(runs.map((run, n) => verify([...filesOf(run), ...filesOf(paths[2 * n + 1])])));
  },
};
const [task, ...inputs] = process.argv.slice(2);
console.log(JSON.stringify(await TASKS[task](...inputs)));
