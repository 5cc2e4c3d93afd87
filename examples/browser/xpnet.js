// The reproducible training of xpnet, as its specification describes it: docs/reproducibility.md, version 1.
// Sections have its numbers and titles, and names are those of its formulas: read the two beside each other.
// Numbers are JavaScript's, IEEE 754 binary64: each + - * / is one rounded operation, and 2 ** n is exact.
export const SPECIFICATION_VERSION = 1;

// 3. The numbers
export class Matrix { // A matrix with one row per unit (or feature) and one column per sample, row by row in `data`
  constructor(rows, columns, data = new Float64Array(rows * columns)) {
    Object.assign(this, { rows, columns, data });
  }
  map(f) { // the matrix of f(value, its number n, row i, column j)
    const { rows, columns, data } = this, result = new Matrix(rows, columns);
    for (let i = 0, n = 0; i < rows; i++) for (let j = 0; j < columns; j++, n++) result.data[n] = f(data[n], n, i, j);
    return result;
  }
  row(i) { return this.data.subarray(i * this.columns, (i + 1) * this.columns); }
  transposed() {
    const { rows, columns, data } = this, result = new Matrix(columns, rows);
    for (let i = 0, n = 0; i < rows; i++) for (let j = 0; j < columns; j++) result.data[j * rows + i] = data[n++];
    return result;
  }
}
const TO_WHOLE = 1.5 * 2 ** 52;
const bits = new DataView(new ArrayBuffer(8));
const exponentOf = (x) => (bits.setFloat64(0, x), (bits.getUint32(0) >>> 20) - 1023); // e of 2^e · m, 1 ≤ m < 2
export const flush = (x) => x + 2 ** -900 - 2 ** -900; // [x]
const roundToWhole = (x) => Math.sign(x) * (Math.abs(x) + 2 ** 52 - 2 ** 52); // ties to even; −0.4 becomes −0
// Real numbers, of which only the result is rounded: whole multiples of 2^-256.
const PLACES = 256n;
const ONE = 1n << PLACES;
const PI = 0x3243f6a8885a308d313198a2e03707344a4093822299f31d0082efa98ec4e6c89n;
const LN2 = 0xb17217f7d1cf79abc9e3b39803f2f6af40f343267298b62d8a0d175b8baafa2bn;
const expReal = (x) => sumSeries((term, k) => ((term * x) >> PLACES) / k);
const cosReal = (x) => sumSeries((term, k) => -((term * x * x) >> (2n * PLACES)) / (2n * k * (2n * k - 1n)));
function fl(numerator, denominator = ONE) { // of a quotient of whole numbers from 0
  const length = (n) => n.toString(2).length;
  const places = BigInt(Math.max(0, length(denominator) - length(numerator) + 55));
  const scaled = numerator << places;
  const sticky = scaled % denominator === 0n ? 0n : 1n;
  return Number(((scaled / denominator) << 1n) | sticky) / 2 ** Number(places + 1n); // Number() rounds it once
}
const sumSeries = (next, term = ONE, k = 1n) => (term === 0n ? 0n : term + sumSeries(next, next(term, k), k + 1n));
export function fsum(terms) { // as a multiple of 2^-1074, rounded once
  let sum = 0n;
  for (const x of terms) {
    bits.setFloat64(0, Math.abs(x));
    const [field, fraction] = [bits.getBigUint64(0) >> 52n, bits.getBigUint64(0) & ((1n << 52n) - 1n)];
    const magnitude = field === 0n ? fraction : ((1n << 52n) | fraction) << (field - 1n);
    sum += x < 0 ? -magnitude : magnitude;
  }
  return sum < 0n ? -fl(-sum, 1n << 1074n) : fl(sum, 1n << 1074n);
}

// 4. Random numbers
const [INITIALISATION, ORDER, AUGMENTATION, DROPOUT, VALIDATION, , NOISE] = [1, 2, 3, 4, 5, 6, 9];
const LOW = (1n << 64n) - 1n;
// 4.1 Words
export function philox([x0, x1, x2, x3], [k0, k1]) { // one use of Philox-4x64-10
  for (let round = 0; round < 10; round++) {
    const [p0, p1] = [x0 * 0xd2e7470ee14c6c93n, x2 * 0xca5a826395121157n];
    [x0, x1, x2, x3] = [(p1 >> 64n) ^ x1 ^ k0, p1 & LOW, (p0 >> 64n) ^ x3 ^ k1, p0 & LOW];
    [k0, k1] = [(k0 + 0x9e3779b97f4a7c15n) & LOW, (k1 + 0xbb67ae8584caa73bn) & LOW];
  }
  return [x0, x1, x2, x3];
}
export function words(seed, purpose, index, epoch, uses, first = 1) { // from c0 = first on
  const [start, key, rest] = [BigInt(first), [BigInt(seed), 0n], [index, epoch, purpose].map(BigInt)];
  const result = new BigUint64Array(4 * uses);
  for (let use = 0; use < uses; use++) result.set(philox([start + BigInt(use), ...rest], key), 4 * use);
  return result;
}
export const uniform = (word) => Number(word >> 40n) * 2 ** -24; // u
// 4.2 Initialisation
export function initialLayer(init, seed, index, inputs, units) {
  const drawn = words(seed, INITIALISATION, index, 0, Math.ceil((units * inputs + units) / 4));
  const fan = init === "he" ? inputs : inputs + units;
  const factor = init === "uniform" ? 1 : 2 * Math.sqrt(6 / fan); // Math.sqrt is correctly rounded
  const W = new Matrix(units, inputs).map((_, n) => (uniform(drawn[n]) - 0.5) * factor);
  const bias = (_, i) => (init === "uniform" ? uniform(drawn[units * inputs + i]) - 0.5 : 0);
  return { W, b: new Float64Array(units).map(bias) };
}
// 4.3 Test and validation samples
export function holdOut(setting, seed, samples, purpose = VALIDATION) { // positions of V samples, and of the others
  const V = setting % 1 === 0 ? setting : Math.max(1, roundToWhole(setting * samples));
  const held = new Set(orderOf(seed, 0, samples, purpose).subarray(0, V));
  const all = Uint32Array.from({ length: samples }, (_, position) => position);
  return [true, false].map((isHeld) => all.filter((position) => held.has(position) === isHeld));
}
// 4.4 Order of the samples
export function orderOf(seed, epoch, samples, purpose = ORDER) {
  const drawn = words(seed, purpose, 0, epoch, Math.ceil(samples / 4));
  const positions = Uint32Array.from({ length: samples }, (_, position) => position);
  return positions.sort((i, j) => (drawn[i] < drawn[j] ? -1 : drawn[i] > drawn[j] ? 1 : i - j));
}
// 4.5 Dropout masks and noise of the inputs
/** f of the 16 bits of each unit (row) and sample (column), of `count` samples from number `first` on. */
function drawn16(Bits, f, seed, purpose, index, epoch, units, first, count) {
  const k = Math.ceil(units / 16);
  const drawn = new Bits(words(seed, purpose, index, epoch, k * count, k * first + 1).buffer); // lowest first
  return new Matrix(units, count).map((_, n, u, j) => f(drawn[16 * k * j + u]));
}
export const dropShare = (probability) => Math.min(roundToWhole(probability * 65536), 65535); // q
export const keptFactor = (q) => 65536 / (65536 - q); // s
export const dropMask = (q, seed, ...place) => // 1 for what is dropped
  drawn16(Uint16Array, (bits) => (bits < q ? 1 : 0), seed, DROPOUT, ...place);

// 5. Contractions
/** Samples of pixels as columns, without those that are 0, which an exact sum does not notice: sample j has
 * the `entries`, 256 times a row plus its pixel, from number `ends[j]` to before `ends[j + 1]`. */
export class Pixels {
  constructor(rows, factor, entries, ends) {
    Object.assign(this, { rows, columns: ends.length - 1, factor, entries, ends });
  }
  static from(x, rows, factor) { // of samples that lie one after the other in x
    let count = 0;
    for (let at = 0; at < x.length; at++) if (x[at] !== 0) count++;
    const [entries, ends] = [new Uint32Array(count), new Uint32Array(x.length / rows + 1)];
    for (let at = 0, n = 0; at < x.length; ends[at / rows] = n) {
      for (let k = 0; k < rows; k++, at++) if (x[at] !== 0) entries[n++] = 256 * k + x[at];
    }
    return new Pixels(rows, factor, entries, ends);
  }
  select(positions, factor) { // a copy, so that what is read together lies together
    const { rows, entries, ends } = this, to = new Uint32Array(positions.length + 1);
    for (let j = 0; j < positions.length; j++) to[j + 1] = to[j] + ends[positions[j] + 1] - ends[positions[j]];
    const copy = new Uint32Array(to.at(-1));
    positions.forEach((at, j) => copy.set(entries.subarray(ends[at], ends[at + 1]), to[j]));
    return new Pixels(rows, factor, copy, to);
  }
  transposed() { // of a block: the features as columns, with the numbers of the samples where they are not 0
    if (this.byFeature) return this.byFeature;
    const { rows, columns, factor, entries, ends } = this, x = new Uint8Array(rows * columns);
    for (let j = 0, n = 0; j < columns; j++) {
      for (; n < ends[j + 1]; n++) x[(entries[n] >>> 8) * columns + j] = entries[n] & 255;
    }
    return (this.byFeature = Pixels.from(x, columns, factor));
  }
}
// 5.1 The budget
export function budget(terms, ofPixels = false) { // null where the contraction is refused
  const c = terms > 1 ? (BigInt(terms) - 1n).toString(2).length : 0;
  const first = ofPixels ? 53 - c - 8 : Math.floor((53 - c) / 2);
  return 2 * first < 20 ? null : { first, second: 53 - c - first, slices: first < 20 ? 2 : 1 };
}
// 5.2 Rounding
function rounded({ rows, columns, data }, byRows, bits, slices) { // the slices of its rows or of its columns
  const [vectors, terms, next, step] = byRows ? [rows, columns, columns, 1] : [columns, rows, 1, columns];
  const parts = Array.from({ length: slices }, () => new Matrix(rows, columns));
  for (let v = 0; v < vectors; v++) {
    const begin = v * next, end = begin + terms * step;
    let M = 2 ** -400; // or NaN
    for (let n = begin; n < end; n += step) M = Math.max(M, Math.abs(data[n]));
    const power = M <= 2 ** 400 ? 2 ** exponentOf(M) : NaN, p = power < M ? power * 2 : power;
    for (let slice = 1; slice <= slices; slice++) { // to the grid, and back
      const shift = p * 2 ** (-bits * slice) * TO_WHOLE, part = parts[slice - 1].data, high = parts[0].data;
      for (let n = begin; n < end; n += step) part[n] = (slice > 1 ? data[n] - high[n] : data[n]) + shift - shift;
    }
  }
  return parts;
}
// 5.3 The product
export const product = (a, b) => contract(a, b)[0]; // rows of a by columns of b, floats or pixels
function contract(a, b) { // with the slices of a
  const ofPixels = b instanceof Pixels, shares = budget(a.columns, ofPixels);
  if (shares === null) throw new Error(`a contraction over ${a.columns} terms leaves too few bits`);
  const slices = rounded(a, true, shares.first, shares.slices), [h, l] = slices;
  const [bh, bl] = ofPixels ? [b] : rounded(b, false, shares.second, shares.slices);
  const times = ofPixels ? timesPixels : exactProduct;
  let result = times(h, bh);
  if (l !== undefined) result = plus(result, bl === undefined ? times(l, bh) : plus(times(l, bh), times(h, bl)));
  if (ofPixels) for (let n = 0; n < result.data.length; n++) result.data[n] *= b.factor;
  return [result, slices];
}
const added = (a, b) => a.map((x, n) => x + b[n]);
const plus = (a, b) => new Matrix(a.rows, a.columns, added(a.data, b.data));
function byFiveRows(a, columns, sumsOf) { // five rows of a side by side; of the last ones, some may be there twice
  const { rows, columns: terms, data } = a, result = new Matrix(rows, columns), w = new Float64Array(5 * terms);
  for (let i = 0; i < rows; i += 5) {
    for (let n = 0; n < w.length; n++) w[n] = data[Math.min(i + (n % 5), rows - 1) * terms + Math.floor(n / 5)];
    for (let j = 0; j < columns; j++) {
      const sums = sumsOf(w, j);
      for (let u = 0; u < 5 && i + u < rows; u++) result.data[(i + u) * columns + j] = sums[u];
    }
  }
  return result;
}
const exactProduct = (a, b) =>
  byFiveRows(a, b.columns, (w, j) => {
    const { columns, data } = b;
    let s0 = 0, s1 = 0, s2 = 0, s3 = 0, s4 = 0;
    for (let k = 0, n = j; k < w.length; k += 5, n += columns) {
      const x = data[n];
      (s0 += w[k] * x), (s1 += w[k + 1] * x), (s2 += w[k + 2] * x), (s3 += w[k + 3] * x), (s4 += w[k + 4] * x);
    }
    return [s0, s1, s2, s3, s4];
  });
const timesPixels = (a, b) =>
  byFiveRows(a, b.columns, (w, j) => {
    const { entries, ends } = b, end = ends[j + 1];
    let s0 = w[0] - w[0], s1 = w[1] - w[1], s2 = w[2] - w[2], s3 = w[3] - w[3], s4 = w[4] - w[4]; // 0, or NaN (5.2)
    for (let n = ends[j]; n < end; n++) {
      const k = 5 * (entries[n] >>> 8), x = entries[n] & 255;
      (s0 += w[k] * x), (s1 += w[k + 1] * x), (s2 += w[k + 2] * x), (s3 += w[k + 3] * x), (s4 += w[k + 4] * x);
    }
    return [s0, s1, s2, s3, s4];
  });
// 5.4 Sums over samples
export function productOverSamples(dz, a) { // dZ Aᵀ, and Σ dz
  const [dW, slices] = contract(dz, a.transposed()), ones = new Matrix(dz.columns, 1).map(() => 1);
  return [dW, slices.map((slice) => exactProduct(slice, ones).data).reduce(added)];
}
const ofRows = (matrix, f) => Float64Array.from({ length: matrix.rows }, (_, i) => f(matrix.row(i), i));

// 6. Other sums
const folding = new Float64Array(1024);
export function foldedSum(terms) {
  let half = 1;
  while (half < terms.length) half *= 2;
  const sums = half <= folding.length ? folding : new Float64Array(half);
  for (let j = 0; j < half; j++) sums[j] = j < terms.length ? terms[j] : 0;
  for (half /= 2; half >= 1; half /= 2) for (let j = 0; j < half; j++) sums[j] += sums[j + half];
  return sums[0];
}

// 7. exp, log, square root
function highAndLow(x, places) { // H = floor(x · 2^places) · 2^-places, L = fl(x − H)
  const high = x >> (PLACES - places);
  return [Number(high) * 2 ** -Number(places), fl(x - (high << (PLACES - places)))];
}
const EXP_SCALE = fl(64n * ONE, LN2);
const [EXP_HIGH, EXP_LOW] = highAndLow(LN2 / 64n, 42n);
const EXP_TABLE = Float64Array.from({ length: 64 }, (_, f) => fl(expReal((LN2 * BigInt(f)) / 64n)));
const POWERS = Float64Array.from({ length: 2046 }, (_, n) => 2 ** (n - 1022)); // 2^-1022 to 2^1023
const [LOG_HIGH, LOG_LOW] = highAndLow(LN2, 40n);
export function exp(x) {
  if (!(x >= -670)) return x < -670 ? 0 : NaN;
  const k = x * EXP_SCALE + TO_WHOLE - TO_WHOLE;
  const r = x - k * EXP_HIGH - k * EXP_LOW;
  const q = ((r * (1 / 120) + 1 / 24) * r + 1 / 6) * r + 1 / 2;
  const g = Math.floor(k / 64);
  const T = EXP_TABLE[k - 64 * g] * POWERS[g + 1022];
  return T + T * (q * (r * r) + r);
}
export function log(x) {
  if (!(x > 0 && x < Infinity)) return x === 0 ? -Infinity : x > 0 ? x : NaN;
  let e = exponentOf(x);
  let m = x / 2 ** e;
  if (m > 1.4142135623730951) [m, e] = [m / 2, e + 1];
  const s = (m - 1) / (m + 1), z = s * s;
  const q = [17, 15, 13, 11, 9, 7, 5, 3].reduce((q, d) => q * z + 1 / d, z * (1 / 21) + 1 / 19);
  return e * LOG_HIGH + (e * LOG_LOW + (2 * s + 2 * s * (z * q)));
}
export function sqrt(x) {
  if (!(x > 0 && x < Infinity)) return x < 0 ? NaN : x;
  const e = Math.floor(exponentOf(x) / 2);
  const m = x / 2 ** e / 2 ** e;
  let y = m * (1 / 3) + 11 / 16;
  for (let n = 0; n < 4; n++) y = 0.5 * (y + m / y);
  return y * 2 ** e;
}

// 8. The data: samples are { x, y, features, isPixels }, with the features of one sample after the other in x.
// 8.1 Features and classes
export function toDoubles(x) { // floats of 32 or 64 bits, a zero for each that is subnormal
  const smallest = x instanceof Float32Array ? 2 ** -126 : 2 ** -1022;
  return Float64Array.from(x, (value) => (Math.abs(value) < smallest ? value * 0 : value));
}
// 8.3 Normalisation
export function fitNormalization(normalize, { x, features, isPixels }, positions) { // for all features, or for each
  const each = (f) => positions.forEach((j) => x.subarray(j * features, (j + 1) * features).forEach(f));
  if (normalize === "none") return { shift: 0, scale: 1 };
  if (normalize === "scale" && isPixels) return { shift: 0, scale: 1 / 255 };
  let [M, S, Q] = [0, 0, 0]; // S and Q of pixels are below 2^53
  each((x) => ([M, S, Q] = [Math.max(M, Math.abs(x)), S + x, Q + x * x]));
  if (normalize === "scale") return { shift: 0, scale: 1 / (M || 1) };
  if (isPixels) {
    const N = BigInt(positions.length * features);
    const deviation = Math.sqrt(fl(N * BigInt(Q) - BigInt(S) ** 2n, N * N));
    return { shift: fl(BigInt(S), N), scale: 1 / (deviation || 1) };
  }
  const [shift, scale] = [new Float64Array(features), new Float64Array(features)];
  for (let k = 0; k < features; k++) {
    const values = Float64Array.from(positions, (j) => x[j * features + k]);
    shift[k] = fsum(values) / values.length;
    const squares = values.map((value) => (value - shift[k]) * (value - shift[k]));
    scale[k] = 1 / (Math.sqrt(fsum(squares) / values.length) || 1);
  }
  return { shift, scale };
}
// 8.4 Weights
export function weights(y, s = null, c = null) { // w of samples with labels y, of weights s or null; c of the classes or null
  if (s === null && c === null) return null;
  const largest = (numbers) => numbers.reduce((a, b) => Math.max(a, b));
  const own = Float64Array.from(y, (_, j) => (s === null ? 1 : s[j] / largest(s)));
  return c === null ? own : own.map((w, j) => w * (c[y[j]] / largest(c)));
}
function balanced(w, y) { // divided by the sum of those of the class
  const totals = {};
  y.forEach((label, j) => (totals[label] = (totals[label] ?? 0) + w[j]));
  return w.map((weight, j) => weight / totals[y[j]]);
}
export function sampleFactors(y, classWeight, own = null) { // f of samples with labels y, and own w or null
  if (classWeight === "none" && own === null) return null;
  let w = own ?? new Float64Array(y.length).fill(1);
  if (classWeight === "balanced") w = balanced(w, y);
  const x = w.reduce((a, b) => Math.max(a, b));
  w = w.map((weight) => weight / x);
  const factor = w.length / fsum(w);
  return w.map((weight) => weight * factor);
}

// 9. The network: { layers, activation }; a layer is { W, b, norm }, norm { gamma, beta, mean, variance } or null.
function initialNetwork({ init, seed, activation, batch_norm: hasNorm }, sizes) {
  const layers = sizes.slice(1).map((units, index) => {
    const [gamma, beta, mean, variance] = [1, 0, 0, 1].map((value) => new Float64Array(units).fill(value));
    const norm = hasNorm && index + 2 < sizes.length ? { gamma, beta, mean, variance } : null;
    return { ...initialLayer(init, seed, index, sizes[index], units), norm };
  });
  return { layers, activation };
}
// 9.1 Inputs
const areIntegers = ({ isPixels }, { shift }) => isPixels && shift === 0;
function inputsOf(samples, positions, normalization) {
  if (!areIntegers(samples, normalization)) return normalized(samples, positions, normalization);
  samples.pixels ??= Pixels.from(samples.x, samples.features, 1);
  return samples.pixels.select(positions, normalization.scale);
}
function normalized({ x, features }, positions, { shift, scale }) { // (x − shift)·scale
  const [shifts, scales] = [shift, scale].map((value) => (value.length ? value : Array(features).fill(value)));
  const at = (k, j) => x[positions[j] * features + k];
  return new Matrix(features, positions.length).map((_, n, k, j) => (at(k, j) - shifts[k]) * scales[k]);
}
// 9.2 Activations
export function tanh(z) {
  if (Math.abs(z) < 0.625) {
    const s = z * z;
    const N = ((s + 594) * s + 45045) * s + 675675;
    const D = (((s + 630) * s + 51975) * s + 945945) * s + 2027025;
    return z - z * (s * (N / D));
  }
  const t = exp(Math.abs(z) * -2);
  return (Math.sign(z) * (1 - t)) / (1 + t);
}
const eluOf = (t) => (t * 2) / (1 - t);
export const ACTIVATIONS = { // A from Z, and dz from da, z and a
  relu: [(z) => (z > 0 ? z : 0), (da, z) => (z > 0 ? da : 0)],
  "leaky-relu": [(z) => (z > 0 ? z : z * 0.01), (da, z) => (z > 0 ? da : da * 0.01)],
  sigmoid: [(z) => (z < 0 ? exp(z) / (1 + exp(z)) : 1 / (1 + exp(-z))), (da, z, a) => da * (a * (1 - a))],
  tanh: [tanh, (da, z, a) => da * (1 - a * a)],
  elu: [(z) => (z > 0 ? z : eluOf(tanh(z * 0.5))), (da, z, a) => (z > 0 ? da : da * (a + 1))],
};
// 9.3 Batch normalisation
export function normalizeBlock({ gamma, beta }, z) { // Y of a block in training, with what else is needed of it
  const h = 1 / z.columns, S = ofRows(z, foldedSum);
  const c = z.map((value, n, i) => value - S[i] * h);
  const Q = ofRows(c, (row) => foldedSum(row.map((value) => value * value)));
  const r = Q.map((squares) => 1 / sqrt(squares * h + 1e-5));
  const hat = c.map((value, n, i) => value * r[i]);
  return { y: hat.map((value, n, i) => gamma[i] * value + beta[i]), hat, r, S, Q };
}
export function normalizeBackward({ gamma }, { hat, r }, dy) {
  const h = 1 / dy.columns;
  const [dgamma, dbeta] = [ofRows(dy.map((value, n) => value * hat.data[n]), foldedSum), ofRows(dy, foldedSum)];
  const dz = dy.map((value, n, i) => gamma[i] * r[i] * (value - (dbeta[i] + hat.data[n] * dgamma[i]) * h));
  return { dz, dgamma, dbeta };
}
export function updateStatistics({ mean, variance }, S, Q, m, B) { // after a batch of m samples in B blocks
  mean.set(mean.map((x, i) => flush(x + (S[i] * (1 / m) - x) * 0.1)));
  variance.set(variance.map((x, i) => flush(x + (Q[i] * (1 / Math.max(m - B, 1)) - x) * 0.1)));
}
export const normalizeByStatistics = ({ gamma, beta, mean, variance }, z) =>
  z.map((value, n, i) => gamma[i] * ((value - mean[i]) * (1 / sqrt(variance[i] + 1e-5))) + beta[i]);
// 9.4 Dropout
const drop = (a, mask, s) => a.map((x, n) => (mask.data[n] === 1 ? 0 : x * s));
// 9.5 Softmax, targets and losses
export function softmax({ rows, columns, data }) { // t, s and a of the columns of logits
  const [t, a] = [new Matrix(rows, columns), new Matrix(rows, columns)];
  const [s, e] = [new Float64Array(columns), new Float64Array(rows)];
  for (let j = 0; j < columns; j++) {
    let largest = -Infinity;
    for (let i = 0; i < rows; i++) largest = Math.max(largest, data[i * columns + j]);
    for (let i = 0, n = j; i < rows; i++, n += columns) e[i] = exp((t.data[n] = data[n] - largest));
    s[j] = foldedSum(e);
    for (let i = 0, n = j; i < rows; i++, n += columns) a.data[n] = e[i] * (1 / s[j]);
  }
  return { t, s, a };
}
export const targets = (labels, classes, e) => // e is the label smoothing; 0 · (1 − e) + … is the second
  new Matrix(classes, labels.length).map((_, n, i, j) => (labels[j] === i ? 1 - e + e / classes : e / classes));
const foldColumns = (matrix, f) => ofRows(matrix.map(f).transposed(), foldedSum);
export function losses(loss, { t, s, a }, y) { // of each sample
  if (loss === "cross-entropy") {
    const products = foldColumns(y, (target, n) => (target === 0 ? 0 : target * t.data[n]));
    return s.map((sum, j) => log(sum) - products[j]);
  }
  return foldColumns(a, (p, n) => (p - y.data[n]) * (p - y.data[n])).map((sum) => flush(sum * 0.5));
}
export function outputGradient(loss, { a }, y) {
  const d = a.map((p, n) => p - y.data[n]);
  if (loss === "cross-entropy") return d;
  const sums = foldColumns(a, (p, n) => p * d.data[n]);
  return a.map((p, n, i, j) => p * (d.data[n] - sums[j]));
}
/** The logits, and what the way back needs of each layer. In training, `masks(layer, z)` are 1 where 0 follows. */
function forward({ layers, activation }, input, training = null) {
  const [steps, [activate]] = [[], ACTIVATIONS[activation]];
  let a = input;
  for (const [index, { W, b, norm }] of layers.entries()) {
    const z = product(W, a);
    for (let i = 0, n = 0; i < z.rows; i++) for (let j = 0; j < z.columns; j++) z.data[n++] += b[i];
    const step = { input: a, y: z, a: new Matrix(z.rows, z.columns) };
    steps.push(step);
    if (index + 1 === layers.length) return { logits: z, steps };
    if (norm !== null) Object.assign(step, training ? normalizeBlock(norm, z) : { y: normalizeByStatistics(norm, z) });
    for (let n = 0; n < z.data.length; n++) step.a.data[n] = activate(step.y.data[n]);
    step.mask = training?.masks(index + 1, z);
    a = step.mask ? drop(step.a, step.mask, training.s) : step.a;
  }
}
// 9.6 Backward
/** The arrays of a block that 10.2 adds: gradients of W, b, gamma and beta, then S and Q, layer by layer. */
function backward({ layers, activation }, steps, outputDz, s) {
  const [results, [, back]] = [[], ACTIVATIONS[activation]];
  for (let index = layers.length - 1, dz = outputDz; ; index--) {
    const [dW, db] = productOverSamples(dz, steps[index].input);
    results.unshift(dW.data, db);
    if (index === 0) return results;
    const below = steps[index - 1];
    let da = product(layers[index].W.transposed(), dz);
    if (below.mask) da = drop(da, below.mask, s);
    dz = new Matrix(da.rows, da.columns);
    for (let n = 0; n < da.data.length; n++) dz.data[n] = back(da.data[n], below.y.data[n], below.a.data[n]);
    if (layers[index - 1].norm === null) continue;
    const gradients = normalizeBackward(layers[index - 1].norm, below, dz);
    results.unshift(gradients.dgamma, gradients.dbeta, below.S, below.Q);
    dz = gradients.dz;
  }
}

// 10. Training
// 10.1 Batches
function batchSize({ batch_size: size, batch_norm: hasNorm }, m) { // N
  let N = size === "full" ? m : Math.min(size, m);
  if (size !== "full" && hasNorm && N === 1) throw new Error("batch normalisation needs batches of two samples");
  while (size !== "full" && hasNorm && m % N === 1) N++;
  return N;
}
// 10.2 Blocks and the tree
export const blocks = (samples) => // the first sample and the one after the last
  Array.from({ length: Math.ceil(samples / 1024) }, (_, n) => [1024 * n, Math.min(1024 * (n + 1), samples)]);
export function treeSum(count, term, first = 0) { // of lists of arrays, term(n) of each block n
  if (count === 1) return term(first);
  const half = 2 ** (31 - Math.clz32(count - 1)); // the largest power of two below
  const [left, right] = [treeSum(half, term, first), treeSum(count - half, term, first + half)];
  return left.map((array, n) => added(array, right[n]));
}
// 10.3 Optimisers
const follow = (p, g, rate) => p.map((x, n) => x - rate * g[n]);
const velocity = (g, { v, mu }) => v.map((x, n) => flush(mu * x + g[n]));
function adam(p, g, rate, { v, m, c1, c2 }) {
  m.set(m.map((x, n) => flush(0.9 * x + (1 - 0.9) * g[n])));
  v.set(v.map((x, n) => flush(0.999 * x + (1 - 0.999) * (g[n] * g[n]))));
  return p.map((x, n) => x - rate * (1 / c1) * (m[n] / (sqrt(v[n] * (1 / c2)) + 1e-8)));
}
/** A step of each rule: the new p, with v and m set anew; the arrays of its state; and its own λ, that of a decoupled one. */
export const OPTIMIZERS = {
  sgd: { step: follow, state: [] },
  momentum: { step: (p, g, rate, s) => (s.v.set(velocity(g, s)), follow(p, s.v, rate)), state: ["v"] },
  nesterov: {
    step: (p, g, rate, s) => (s.v.set(velocity(g, s)), follow(p, g.map((x, n) => x + s.mu * s.v[n]), rate)),
    state: ["v"],
  },
  adam: { step: adam, state: ["m", "v"] },
  adamw: { step: adam, state: ["m", "v"], decoupled: 0.01 },
};
/** A function of gradients and rate that updates `parameters`, [{ p, units }], units of a W, 0 of the others. */
export function buildOptimizer({ optimizer, momentum, weight_decay, clip_norm: clip, max_norm: largest }, parameters) {
  const { step, decoupled } = OPTIMIZERS[optimizer];
  const [mu, lambda] = [momentum ?? 0.9, weight_decay ?? decoupled ?? 0];
  const [vs, ms] = [0, 0].map(() => parameters.map(({ p }) => new Float64Array(p.length)));
  const factorOf = (c, values) => c / Math.max(c, sqrt(foldedSum(values.map((x) => x * x))));
  let [c1, c2] = [0, 0];
  const update = (gradients, rate) => {
    const clipped = clip === null ? 1 : factorOf(clip, gradients.flatMap((g) => [...g]));
    [c1, c2] = [0.9 * c1 + (1 - 0.9), 0.999 * c2 + (1 - 0.999)];
    for (const [index, { p, units }] of parameters.entries()) {
      let g = gradients[index].map((x) => x * clipped);
      const decays = units > 0 && lambda > 0;
      if (decays && decoupled === undefined) g = g.map((x, n) => flush(x + lambda * p[n]));
      if (decays && decoupled !== undefined) p.set(p.map((x) => x - rate * flush(lambda * x)));
      p.set(step(p, g, rate, { v: vs[index], m: ms[index], mu, c1, c2 }));
      for (let i = 0; i < units && largest !== null; i++) {
        const w = p.subarray((i * p.length) / units, ((i + 1) * p.length) / units);
        const factor = factorOf(largest, w);
        w.set(w.map((x) => flush(x * factor)));
      }
    }
  };
  return Object.assign(update, { state: () => ({ vs, ms, c1, c2 }) });
}
// 10.4 Learning rates
export const power = (f, n, half = n > 0 ? power(f, Math.floor(n / 2)) : 1) => half * half * (n % 2 === 1 ? f : 1);
export const cosineShare = (t, T) => fl(ONE + cosReal((PI * BigInt(t)) / BigInt(T)), 2n * ONE);
export function learningRate(settings, t, E) { // after t steps, of E steps in each epoch
  const { schedule, learning_rate: R, schedule_step_epochs: P, warmup_epochs: warmup, epochs } = settings;
  const f = settings.schedule_factor ?? { step: 0.1, exponential: 0.95, cosine: 0 }[schedule];
  const c = schedule === "cosine" ? cosineShare(t, epochs * E) : 1;
  const n = Math.floor(t / (schedule === "step" ? (P ?? 30) * E : E));
  const rate = schedule === "constant" ? R : schedule === "cosine" ? R * c + R * f * (1 - c) : R * power(f, n);
  return t < E * warmup ? rate * ((t + 1) / (E * warmup)) : rate;
}
// 10.5 The start
/** Trains; yields { epoch, network, positions, validation, isBest, isLast } after each epoch from 0 on, with the
 * positions of the samples to train on; returns the trained network, and the best epoch of a patience. */
export function* trainEpochs(settings, samples, classes, onProgress = () => {}) {
  const { seed, patience, average_epochs: averaged, epochs } = settings;
  const [held, positions] = holdOut(settings.validation, seed, samples.y.length);
  const network = initialNetwork(settings, [samples.features, ...settings.hidden, classes]);
  network.normalization = fitNormalization(settings.normalize, samples, positions);
  const update = buildOptimizer(settings, network.layers.flatMap(({ W, b, norm }) => [
    { p: W.data, units: W.rows }, ...[b, norm?.gamma, norm?.beta].filter(Boolean).map((p) => ({ p, units: 0 })),
  ]));
  const own = samples.w && Float64Array.from(positions, (position) => samples.w[position]);
  const factors = sampleFactors(positions.map((position) => samples.y[position]), settings.class_weight, own ?? null);
  const training = { settings, samples, classes, positions, network, factors, update, onProgress };
  let [best, sum] = [null, null];
  for (let epoch = 0; ; epoch++) {
    if (epoch > 0) trainEpoch(training, epoch);
    // 10.6 The trained network
    const validation = held.length > 0 ? validate(settings, network, samples, held) : null;
    const isBest = patience !== null && (best === null || isBetter(validation, best));
    const copy = arraysOf(network).map((array) => array.slice());
    if (isBest) best = { ...validation, epoch, arrays: copy };
    const isAveraged = averaged > 1 && epoch > epochs - averaged;
    if (isAveraged) sum = sum?.map((array, n) => added(array, copy[n]).map(flush)) ?? copy;
    const isLast = epoch === epochs || (patience !== null && epoch - best.epoch >= patience);
    yield { epoch, network, positions, validation, isBest, isLast, state: () => ({ optimizer: update.state(), best, sum }) };
    if (!isLast) continue;
    const final = best?.arrays ?? sum?.map((array) => array.map((x) => flush(x * (1 / averaged)))) ?? copy;
    arraysOf(network).forEach((array, n) => array.set(final[n]));
    return { network, bestEpoch: best?.epoch };
  }
}
const rank = ({ score, accuracy }) => score ?? accuracy;
const isBetter = (a, b) => rank(a) > rank(b) || (rank(a) === rank(b) && a.loss < b.loss);
/** What makes an epoch the best, with "auto" resolved; whether the samples have own weights. */
export const bestBy = ({ best_by: setting, class_weight: kind }, hasWeights = false) =>
  setting !== "auto" ? setting : hasWeights || kind === "balanced" ? "weighted-accuracy" : "accuracy";
/** What `evaluate` gives of the held-out samples, and the score unless that is the accuracy. */
export function validate(settings, network, samples, held) {
  const [evaluated, by] = [evaluate(settings, network, samples, held), bestBy(settings, samples.w !== undefined)];
  if (by === "accuracy") return evaluated;
  if (by === "loss") return { ...evaluated, score: 0 - evaluated.loss };
  const y = Array.from(held, (position) => samples.y[position]);
  const right = y.map((label, j) => evaluated.predictions[j] === label);
  if (by === "weighted-accuracy") {
    let w = Float64Array.from(held, (position) => samples.w?.[position] ?? 1);
    if (settings.class_weight === "balanced") w = balanced(w, y);
    return { ...evaluated, score: fsum(w.filter((_, j) => right[j])) / fsum(w) };
  }
  const recalls = [...new Set(y)].sort((a, b) => a - b).map((label) => {
    const ofClass = right.filter((_, j) => y[j] === label);
    return ofClass.filter(Boolean).length / ofClass.length;
  });
  return { ...evaluated, score: recalls.reduce((a, b) => a + b) / recalls.length };
}
function trainEpoch(training, epoch) {
  const { settings, positions, network, update, onProgress } = training, isFull = settings.batch_size === "full";
  const [m, N] = [positions.length, batchSize(settings, positions.length)];
  const E = Math.ceil(m / N);
  if (!isFull || epoch === 1) [training.order, training.inputs] = [orderOf(settings.seed, isFull ? 0 : epoch, m), {}];
  for (let b = 0; b < E; b++) {
    const batch = training.order.subarray(b * N, (b + 1) * N), bounds = blocks(batch.length);
    const sums = treeSum(bounds.length, (n) => {
      onProgress((b * N + bounds[n][0]) / m);
      return blockSums(training, epoch, batch.subarray(...bounds[n]), b * N + bounds[n][0]);
    });
    const gradients = network.layers.flatMap(({ norm }) => {
      const own = sums.splice(0, norm === null ? 2 : 4);
      if (norm !== null) updateStatistics(norm, ...sums.splice(0, 2), batch.length, bounds.length);
      return own.map((g) => g.map((x) => x * (1 / batch.length)));
    });
    update(gradients, learningRate(settings, (epoch - 1) * E + b, E));
  }
  if (!Number.isFinite(network.layers.at(-1).b.reduce((a, b) => a + b))) throw new Error("the training diverged");
}
/** What `backward` gives of a block of samples, whose numbers in the epoch begin with `first`. */
function blockSums(training, epoch, order, first) {
  const { settings, samples, classes, positions, network, factors } = training;
  const { seed, loss, label_smoothing: smoothing, dropout } = settings;
  const q = dropShare(dropout);
  const masks = (layer, z) => dropout > 0 && dropMask(q, seed, layer, epoch, z.rows, first, z.columns);
  const block = order.map((number) => positions[number]);
  const input = trainingInputs(training, block, epoch, first);
  const { logits, steps } = forward(network, input, { masks, s: keptFactor(q) });
  const y = targets(block.map((position) => samples.y[position]), classes, smoothing);
  const dz = outputGradient(loss, softmax(logits), y);
  const weighted = factors === null ? dz : dz.map((x, n, i, j) => x * factors[order[j]]);
  return backward(network, steps, weighted, keptFactor(q));
}
/** A of the first layer in training: variants of images (12), without what is dropped, with noise (9.4). */
function trainingInputs({ settings, samples, network: { normalization }, inputs }, block, epoch, first) {
  const { seed, input_dropout: dropout, input_noise: noise } = settings;
  const { features } = samples, ofIntegers = noise === 0 && areIntegers(samples, normalization);
  const [count, q, isVaried] = [block.length, dropShare(dropout), DISTORTIONS.some((name) => settings[name] > 0)];
  if (ofIntegers && dropout === 0 && !isVaried) return (inputs[first] ??= inputsOf(samples, block, normalization));
  const x = new samples.x.constructor(features * count);
  block.forEach((position, j) => {
    const image = samples.x.subarray(position * features, (position + 1) * features);
    x.set(isVaried ? variant(settings, image, epoch, position) : image, j * features);
  });
  const mask = dropout > 0 ? dropMask(q, seed, 0, epoch, features, first, count) : null;
  if (ofIntegers) {
    mask?.map((isDropped, n, k, j) => isDropped && (x[j * features + k] = 0));
    return Pixels.from(x, features, mask === null ? normalization.scale : keptFactor(q) * normalization.scale);
  }
  let a = normalized({ x, features }, block.map((_, j) => j), normalization);
  if (mask !== null) a = drop(a, mask, keptFactor(q));
  if (noise === 0) return a;
  const n16 = drawn16(Int16Array, (n) => n, seed, NOISE, 0, epoch, features, first, count);
  return a.map((value, n) => value + n16.data[n] * (noise * 2 ** -15));
}

// 11. Evaluation and prediction
export function evaluate({ loss, label_smoothing: smoothing }, network, samples, positions) {
  const predictions = [];
  const labels = positions.map((position) => samples.y[position]);
  const bounds = blocks(labels.length);
  const [[sum]] = treeSum(bounds.length, (n) => {
    const { logits } = forward(network, inputsOf(samples, positions.subarray(...bounds[n]), network.normalization));
    const firstLargest = (row) => row.reduce((top, z, i) => (z > row[top] ? i : top), 0);
    predictions.push(...ofRows(logits.transposed(), firstLargest));
    const y = targets(labels.subarray(...bounds[n]), logits.rows, smoothing);
    return [Float64Array.of(foldedSum(losses(loss, softmax(logits), y)))];
  });
  const correct = predictions.filter((prediction, j) => prediction === labels[j]).length;
  return { loss: sum * (1 / labels.length), accuracy: correct / labels.length, predictions };
}

// 12. Augmented images
const AMOUNTS = ["shift", "rotate", "scale", "shear", "elastic_alpha", "thickness"];
const DISTORTIONS = AMOUNTS.map((name) => `augment_${name}`);
export function variant(settings, image, epoch, index) { // of a square image, by its index in the data
  const [shift, rotate, scale, shear, alpha, thickness] = DISTORTIONS.map((name) => settings[name]);
  const w = Math.sqrt(image.length); // and the height
  const at = (pixels, i, j) => (i < 0 || j < 0 || i >= w || j >= w ? 0 : pixels[i * w + j]);
  // 12.1 The transform
  const [F, j] = [settings.augment_fade_epochs, Math.max(settings.epochs - epoch + 1, 1)];
  const f = F > 0 && j <= F ? Math.floor((256 * j) / (F + 1)) : 256;
  const numbers = thickness > 0 ? 6 : 5;
  const uses = Math.ceil((numbers + (alpha > 0 ? (w * w) / 2 : 0)) / 4);
  const drawn = words(settings.seed, AUGMENTATION, index, epoch, uses);
  const [r1, r2, r3, r4, r5, r6] = Array.from(drawn.subarray(0, 6), (word) => ((2 * uniform(word) - 1) * f) / 256);
  const [sin, cos] = sinAndCos(rotate * r3);
  const [size, k] = [1 + scale * r4, shear * r5];
  const [S, C] = [sin / size, cos / size];
  const c = (a, b) => (w - 1) / 2 - (a * (shift * r1) + b * (shift * r2));
  const axes = [[C + k * S, -S + k * C], [S, C]].map(([a, b]) => [a, b, c(a, b)]);
  const D = alpha > 0 ? displacements(settings, drawn.subarray(numbers), w, f) : null;
  // 12.3 The pixels
  const result = image.map((_, n) => {
    const [X, Y] = [(n % w) - (w - 1) / 2, Math.floor(n / w) - (w - 1) / 2];
    const [x, y] = axes.map(([a, b, c], axis) => {
      const across = 128 * a * X + (128 * c + 128.5);
      const place = (D === null ? across : D[axis].data[n] + across) + 128 * b * Y;
      return Math.floor(Math.min(Math.max(place, 0), 128 * (w + 1)));
    });
    const [column, row, fx, fy] = [Math.floor(x / 128) - 1, Math.floor(y / 128) - 1, x % 128, y % 128];
    const between = (i) => at(image, i, column) * 128 + (at(image, i, column + 1) - at(image, i, column)) * fx;
    const [upper, lower] = [between(row), between(row + 1)];
    return Math.floor((upper * 128 + (lower - upper) * fy + 2 ** 13) / 2 ** 14);
  });
  if (thickness === 0) return result;
  // 12.4 Thickness
  const growth = Math.floor(128 * (thickness * r6));
  return result.map((P, n) => {
    const places = [[0, 0], [0, -1], [0, 1], [-1, 0], [1, 0]];
    const around = places.map(([i, j]) => at(result, Math.floor(n / w) + i, (n % w) + j));
    const contrast = growth > 0 ? Math.max(...around) - P : P - Math.min(...around);
    return P + Math.floor((contrast * growth + 64) / 128);
  });
}
export function sinAndCos(theta) { // of degrees
  const n = roundToWhole(theta * (1 / 90));
  const x = (theta - 90 * n) * 0.017453292519943295, z = x * x; // fl(π/180)
  let [s, c] = [1, 1];
  for (let j = 16; j >= 2; j -= 2) [c, s] = [1 - z * c * (1 / ((j - 1) * j)), 1 - z * s * (1 / (j * (j + 1)))];
  s = x * s;
  return [[s, c], [c, -s], [-s, -c], [-c, s]][((n % 4) + 4) % 4];
}
// 12.2 Elastic deformation
const kernels = {}; // G by side and sigma
export function smoothing(side, sigma) {
  let [whole, denominator] = [sigma, 1n]; // a fraction
  for (; whole % 1 !== 0; whole *= 2) denominator *= 2n;
  const share = (k) => expReal((-BigInt(k * k) * denominator ** 2n * ONE) / (2n * BigInt(whole) ** 2n));
  const K = Math.floor(4 * sigma + 1 / 2);
  let sum = 0n;
  for (let k = -K; k <= K; k++) sum += share(k);
  const row = Array.from({ length: side }, (_, k) => (k <= K ? fl(share(k), sum) : 0));
  return new Matrix(side, side).map((_, n, i, j) => row[Math.abs(i - j)]);
}
function displacements({ augment_elastic_alpha: alpha, augment_elastic_sigma: sigma }, drawn, w, f) { // D
  const G = (kernels[`${w} ${sigma}`] ??= smoothing(w, sigma ?? 4));
  const integers = new Int16Array(drawn.slice().buffer);
  return [0, 1].map((direction) => {
    const N = new Matrix(w, w).map((_, n, i, j) => Math.floor((integers[(2 * j + direction) * w + i] * f) / 256));
    return product(product(N.transposed(), G).transposed(), G.map((x) => x * (alpha * 2 ** -8)));
  });
}

// 13. The fingerprint
export const arraysOf = ({ layers }) => layers.flatMap(({ W, b, norm }) => [W.data, b, ...Object.values(norm ?? {})]);
export const fingerprint = (network) => sha256(...arraysOf(network));
const PRIMES = [2];
for (let n = 3; PRIMES.length < 64; n++) if (PRIMES.every((prime) => n % prime > 0)) PRIMES.push(n);
const fraction32 = (x) => ((x % 1) * 2 ** 32) | 0;
const ROUNDS = PRIMES.map((prime) => fraction32(Math.cbrt(prime)));
export function sha256(...arrays) { // of arrays of numbers, one after the other (FIPS 180-4)
  const length = arrays.reduce((sum, array) => sum + array.byteLength, 0);
  const bytes = new Uint8Array(64 * Math.ceil((length + 9) / 64));
  const bytesOf = ({ buffer, byteOffset, byteLength }) => new Uint8Array(buffer, byteOffset, byteLength);
  arrays.map(bytesOf).reduce((at, part) => (bytes.set(part, at), at + part.length), 0);
  bytes[length] = 0x80;
  const view = new DataView(bytes.buffer);
  view.setBigUint64(bytes.length - 8, BigInt(8 * length));
  const state = Int32Array.from(PRIMES.slice(0, 8), (prime) => fraction32(Math.sqrt(prime)));
  const turned = (x, n) => (x >>> n) | (x << (32 - n));
  const w = new Int32Array(16);
  for (let block = 0; block < bytes.length; block += 64) {
    let [a, b, c, d, e, f, g, h] = state;
    for (let t = 0; t < 64; t++) {
      const x = w[(t + 1) & 15], y = w[(t + 14) & 15]; // of 15 and 2 words before
      const sigmas = (turned(x, 7) ^ turned(x, 18) ^ (x >>> 3)) + (turned(y, 17) ^ turned(y, 19) ^ (y >>> 10));
      w[t & 15] = t < 16 ? view.getInt32(block + 4 * t) : w[t & 15] + w[(t + 9) & 15] + sigmas;
      const t1 = h + (turned(e, 6) ^ turned(e, 11) ^ turned(e, 25)) + ((e & f) ^ (~e & g)) + ROUNDS[t] + w[t & 15];
      const t2 = (turned(a, 2) ^ turned(a, 13) ^ turned(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
      (h = g), (g = f), (f = e), (e = (d + t1) | 0), (d = c), (c = b), (b = a), (a = (t1 + t2) | 0);
    }
    [a, b, c, d, e, f, g, h].forEach((x, n) => (state[n] += x));
  }
  return Array.from(state, (x) => (x >>> 0).toString(16).padStart(8, "0")).join("");
}

// The test vectors: docs/vectors/README.md
export function hexadecimal(x) { // of a finite number
  bits.setFloat64(0, Math.abs(x));
  const [field, digits] = [bits.getUint16(0) >> 4, bits.getBigUint64(0).toString(16).padStart(16, "0").slice(3)];
  const [lead, exponent] = field > 0 ? [1, field - 1023] : [0, x === 0 ? 0 : -1022];
  const sign = x < 0 || Object.is(x, -0) ? "-" : "";
  return `${sign}0x${lead}.${digits.replace(/0+$/, "") || "0"}p${exponent < 0 ? "" : "+"}${exponent}`;
}
export function readFloat(text) { // undefined for any other text
  const parts = /^(-?)0x([01])\.([0-9a-f]+)p([+-]\d+)$/.exec(text);
  if (parts === null) return { inf: Infinity, "-inf": -Infinity, nan: NaN }[text];
  return (parts[1] ? -1 : 1) * parseInt(parts[2] + parts[3], 16) * 2 ** (parts[4] - 4 * parts[3].length);
}
/** The results of an entry of the form of trainings.json, in the file that it stands in. */
export function train(training, file) {
  const { specification, defaults, classes } = file;
  if (specification !== SPECIFICATION_VERSION) throw new Error(`expected specification 1, got ${specification}`);
  const unknown = Object.keys(training.settings).find((name) => !(name in defaults));
  if (unknown) throw new Error(`${unknown}: is no setting of a reproducible training`);
  const read = ([name, value]) => [name, /^-?0x/.test(value) ? (readFloat(value) ?? BigInt(value)) : value];
  const settings = Object.fromEntries(Object.entries({ ...defaults, ...training.settings }).map(read));
  const [all, test] = samplesByRule(training, file);
  const samples = weighted(all, training);
  const [fingerprints, history] = [[], []];
  const figures = ({ loss, accuracy, score }) => [loss, accuracy, score].filter((x) => x !== undefined).map(hexadecimal);
  const epochs = trainEpochs(settings, samples, classes);
  let next = epochs.next();
  for (; !next.done; next = epochs.next()) {
    const { network, positions, validation } = next.value;
    fingerprints.push(fingerprint(network));
    history.push([evaluate(settings, network, samples, positions), validation ?? []].flatMap(figures));
  }
  const { network, bestEpoch } = next.value;
  const order = test.y.map((_, j) => j);
  const a = softmax(forward(network, inputsOf(test, order, network.normalization)).logits).a.transposed();
  return {
    ...{ sizes: [samples.features, ...settings.hidden, classes], fingerprints, history },
    ...(bestEpoch === undefined ? {} : { "best epoch": bestEpoch }),
    ...{ fingerprint: fingerprint(network), test: figures(evaluate(settings, network, test, order)) },
    probabilities: [0, 1].map((j) => Array.from(a.row(j), hexadecimal)),
  };
}
function weighted(samples, training) { // those of a weight above 0, with their w
  const [s, c] = ["sample weights", "class weights"].map((name) => training[name]?.map((x) => readFloat(x) ?? x) ?? null);
  const w = weights(samples.y, s, c);
  if (w === null) return samples;
  const { features } = samples, kept = [...w.keys()].filter((j) => w[j] > 0);
  const x = new samples.x.constructor(kept.length * features);
  kept.forEach((j, n) => x.set(samples.x.subarray(j * features, (j + 1) * features), n * features));
  return { ...samples, x, y: Int32Array.from(kept, (j) => samples.y[j]), w: Float64Array.from(kept, (j) => w[j]) };
}
function samplesByRule({ features: kind, samples }, { features, classes, "test samples": tests }) {
  const [count, isPixels] = [samples + tests, kind === "pixels"];
  const [Values, places] = { pixels: [Uint8Array], floats: [Float64Array, 3], float32: [Float32Array, 125] }[kind];
  const given = new Values(count * features);
  const value = (word, f) => (isPixels ? Number(word % 256n) : (uniform(word) - 0.5) * 2 ** ((f % 7) - places));
  for (let i = 0; i < count; i++) given.set(Array.from(words(0, 0, i, 0, features / 4), value), i * features);
  const x = isPixels ? given : toDoubles(given);
  const y = Int32Array.from(words(0, 0, 0, 1, Math.ceil(count / 4)), (word) => Number(word % BigInt(classes)));
  return [[0, samples], [samples, count]].map(([begin, end]) => {
    return { x: x.subarray(begin * features, end * features), y: y.subarray(begin, end), features, isPixels };
  });
}
