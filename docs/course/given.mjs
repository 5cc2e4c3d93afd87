// What the exercises of the course need, with the same bits everywhere: docs/reproducibility.md, 5 to 7.
// A matrix is an array of rows, one for each unit (or feature), with a number for each sample. Rows that are
// Uint8Arrays hold pixels, from 0 to 255, and stand for pixels/255.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";

// A B, the rows of A and the columns of B rounded to grids on which every sum is exact (5)
export const matmul = (A, B) => toRows(product(toMatrix(A), arePixels(B) ? toPixels(B) : toMatrix(B)));

// The sum of each row of dZ, as a column, on the grid that dZ has in matmul(dZ, transpose(A)) (5.4)
export function sumSamples(dZ, A) {
  const { first, slices } = budget(dZ[0].length, arePixels(A)), ones = new Matrix(dZ[0].length, 1).map(() => 1);
  const parts = rounded(toMatrix(dZ), true, first, slices);
  return Array.from(parts.map((part) => exactProduct(part, ones).data).reduce(added), (sum) => [sum]);
}

// The sum of numbers: the second half is added to the first, until one is left (6)
export const fold = foldedSum;

// The sum of matrices, one of each block of a batch, added in pairs of neighbours (10.2)
export const tree = (sums) => treeSum(sums.length, (n) => sums[n]);

// f of each number; of others that have one row or one column, that is taken for all
export function map(f, A, ...others) {
  return Array.from(A, (row, i) => {
    const rows = others.map((B) => (B.length === 1 ? B[0] : B[i]));
    return Array.from(row, (x, j) => f(x, ...rows.map((own) => (own.length === 1 ? own[0] : own[j]))));
  });
}

export function transpose(A) {
  if (!arePixels(A)) return Array.from(A[0], (_, j) => Array.from(A, (row) => row[j]));
  const x = bySample(A);
  return Array.from({ length: A[0].length }, (_, j) => x.subarray(j * A.length, (j + 1) * A.length));
}

// The numbers in a file of MNIST, .gz or not, as one array for each image, or one of all labels
export function readIdx(path) {
  const file = readFileSync(path), data = path.endsWith(".gz") ? gunzipSync(file) : file;
  const sizes = Array.from({ length: data[3] }, (_, n) => data.readUInt32BE(4 + 4 * n));
  const values = new Uint8Array(data.subarray(4 + 4 * data[3])), length = values.length / sizes[0];
  return length === 1 ? values : Array.from({ length: sizes[0] }, (_, n) => values.subarray(n * length, (n + 1) * length));
}

// The SHA-256 of the parameters W1, b1, W2, b2, …, row by row (13)
export function fingerprint(parameters) {
  const digest = createHash("sha256");
  parameters.flat().forEach((row) => digest.update(new Uint8Array(Float64Array.from(row).buffer)));
  return digest.digest("hex");
}

export { exp, log, sqrt };

const arePixels = (B) => B[0] instanceof Uint8Array;
const toRows = (matrix) => Array.from({ length: matrix.rows }, (_, i) => matrix.row(i));
function toMatrix(A) {
  const matrix = new Matrix(A.length, A[0].length);
  A.forEach((row, i) => matrix.row(i).set(row));
  return matrix;
}
const toPixels = (B) => Pixels.from(bySample(B), B.length, 1 / 255);
function bySample(B) { // the pixels of one sample after the other
  const x = new Uint8Array(B.length * B[0].length);
  for (let k = 0; k < B.length; k++) {
    const row = B[k];
    for (let j = 0, n = k; j < row.length; j++, n += B.length) x[n] = row[j];
  }
  return x;
}

// From examples/browser/xpnet.js, by docs/course/make_course.py
// 3. The numbers
class Matrix { // A matrix with one row per unit (or feature) and one column per sample, row by row in `data`
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
const flush = (x) => x + 2 ** -900 - 2 ** -900; // [x]
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
function fsum(terms) { // as a multiple of 2^-1074, rounded once
  let sum = 0n;
  for (const x of terms) {
    bits.setFloat64(0, Math.abs(x));
    const [field, fraction] = [bits.getBigUint64(0) >> 52n, bits.getBigUint64(0) & ((1n << 52n) - 1n)];
    const magnitude = field === 0n ? fraction : ((1n << 52n) | fraction) << (field - 1n);
    sum += x < 0 ? -magnitude : magnitude;
  }
  return sum < 0n ? -fl(-sum, 1n << 1074n) : fl(sum, 1n << 1074n);
}

// 5. Contractions
/** Samples of pixels as columns, without those that are 0, which an exact sum does not notice: sample j has
 * the `entries`, 256 times a row plus its pixel, from number `ends[j]` to before `ends[j + 1]`. */
class Pixels {
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
function budget(terms, ofPixels = false) { // null where the contraction is refused
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
const product = (a, b) => contract(a, b)[0]; // rows of a by columns of b, floats or pixels
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
function productOverSamples(dz, a) { // dZ Aᵀ, and Σ dz
  const [dW, slices] = contract(dz, a.transposed()), ones = new Matrix(dz.columns, 1).map(() => 1);
  return [dW, slices.map((slice) => exactProduct(slice, ones).data).reduce(added)];
}
const ofRows = (matrix, f) => Float64Array.from({ length: matrix.rows }, (_, i) => f(matrix.row(i), i));

// 6. Other sums
const folding = new Float64Array(1024);
function foldedSum(terms) {
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
function exp(x) {
  if (!(x >= -670)) return x < -670 ? 0 : NaN;
  const k = x * EXP_SCALE + TO_WHOLE - TO_WHOLE;
  const r = x - k * EXP_HIGH - k * EXP_LOW;
  const q = ((r * (1 / 120) + 1 / 24) * r + 1 / 6) * r + 1 / 2;
  const g = Math.floor(k / 64);
  const T = EXP_TABLE[k - 64 * g] * POWERS[g + 1022];
  return T + T * (q * (r * r) + r);
}
function log(x) {
  if (!(x > 0 && x < Infinity)) return x === 0 ? -Infinity : x > 0 ? x : NaN;
  let e = exponentOf(x);
  let m = x / 2 ** e;
  if (m > 1.4142135623730951) [m, e] = [m / 2, e + 1];
  const s = (m - 1) / (m + 1), z = s * s;
  const q = [17, 15, 13, 11, 9, 7, 5, 3].reduce((q, d) => q * z + 1 / d, z * (1 / 21) + 1 / 19);
  return e * LOG_HIGH + (e * LOG_LOW + (2 * s + 2 * s * (z * q)));
}
function sqrt(x) {
  if (!(x > 0 && x < Infinity)) return x < 0 ? NaN : x;
  const e = Math.floor(exponentOf(x) / 2);
  const m = x / 2 ** e / 2 ** e;
  let y = m * (1 / 3) + 11 / 16;
  for (let n = 0; n < 4; n++) y = 0.5 * (y + m / y);
  return y * 2 ** e;
}

// 10.2 Blocks and the tree
const blocks = (samples) => // the first sample and the one after the last
  Array.from({ length: Math.ceil(samples / 1024) }, (_, n) => [1024 * n, Math.min(1024 * (n + 1), samples)]);
function treeSum(count, term, first = 0) { // of lists of arrays, term(n) of each block n
  if (count === 1) return term(first);
  const half = 2 ** (31 - Math.clz32(count - 1)); // the largest power of two below
  const [left, right] = [treeSum(half, term, first), treeSum(count - half, term, first + half)];
  return left.map((array, n) => added(array, right[n]));
}
