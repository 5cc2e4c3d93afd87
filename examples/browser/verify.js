// Reads the files of a run and its data, computes the training again with xpnet.js, and names the first difference.
// It believes nothing: what it does not know, it refuses or names.
import SCHEMAS from "../../xpnet/storage/schemas.json" with { type: "json" };
import { SPECIFICATION_VERSION, arraysOf, bestBy, evaluate, fingerprint, sha256, toDoubles, trainEpochs, validate } from "./xpnet.js";

/** A reason in one line why something cannot be read or verified, or what differs. */
class Refusal extends Error {}
class Difference extends Error {}
const refuse = (line) => { throw new Refusal(line); };
const differ = (line) => { throw new Difference(line); };

// Settings

const whole = (least) => (value) => Number.isSafeInteger(value) && value >= least;
const number = (least, below = Infinity) => (value) => typeof value === "number" && value >= least && value < below;
const oneOf = (...choices) => (value) => choices.includes(value);
const orNull = (rule) => (value) => value === null || rule(value);
const isBoolean = (value) => typeof value === "boolean";
const isAnything = () => true;

/** Default and rule of the settings with an effect on the bits. */
const SETTINGS = {
  validation: [0, number(0)],
  normalize: ["scale", oneOf("scale", "standardize", "none")],
  augment_shift: [0, number(0)],
  augment_rotate: [0, number(0)],
  augment_scale: [0, number(0, 1)],
  augment_shear: [0, number(0)],
  augment_elastic_alpha: [0, number(0)],
  augment_elastic_sigma: [null, orNull(number(0.1, 101))],
  augment_thickness: [0, number(0)],
  augment_fade_epochs: [0, whole(0)],
  hidden: [[10], (value) => Array.isArray(value) && value.every(whole(1))],
  activation: ["relu", oneOf("relu", "leaky-relu", "elu", "tanh", "sigmoid")],
  batch_norm: [false, isBoolean],
  dropout: [0, number(0, 1)],
  input_dropout: [0, number(0, 1)],
  input_noise: [0, number(0)],
  init: ["uniform", oneOf("uniform", "he", "glorot")],
  epochs: [100, whole(0)],
  batch_size: ["full", (value) => value === "full" || whole(1)(value)],
  loss: ["cross-entropy", oneOf("cross-entropy", "squared-error")],
  label_smoothing: [0, number(0, 1)],
  class_weight: ["none", oneOf("none", "balanced")],
  patience: [null, orNull(whole(1))],
  best_by: ["accuracy", oneOf("accuracy", "weighted-accuracy", "balanced-accuracy", "loss")],
  average_epochs: [1, whole(1)],
  seed: [0, (value) => typeof value === "number" && value >= 0],
  optimizer: ["sgd", oneOf("sgd", "momentum", "nesterov", "adam", "adamw")],
  momentum: [null, orNull(number(0, 1))],
  learning_rate: [0.1, number(0)],
  schedule: ["constant", oneOf("constant", "step", "exponential", "cosine")],
  schedule_step_epochs: [null, orNull(whole(1))],
  schedule_factor: [null, orNull(number(0))],
  warmup_epochs: [0, whole(0)],
  weight_decay: [null, orNull(number(0))],
  clip_norm: [null, orNull(number(0))],
  max_norm: [null, orNull(number(0))],
};
/** The values that the settings of data, start and arithmetic must have here, and the reason. */
const REQUIRED = {
  arithmetic: [oneOf("reproducible"), "was trained in native arithmetic, which gives other bits on other machines"],
  dtype: [oneOf("auto", "float64"), "was trained in another dtype than float64"],
  init_from: [oneOf(null), "started from a model file: xpnet verify takes it"],
  extend: [oneOf(null), "extends another run: xpnet verify takes both"],
  resume: [oneOf(null), "names a run that it resumes, as no record of one training does"],
  repeats: [oneOf(1), "has several seeds, as no record of one training does"],
  ...Object.fromEntries(["test_data", "test_split", "label"].map((name) => [name, [oneOf(null), "has the data of a CSV file: this page takes IDX and .npy files"]])),
  missing: [oneOf("error"), "has the data of a CSV file: this page takes IDX and .npy files"],
  columns: [isAnything, ""],
};
/** The settings with none; those of SCHEMAS, the settings and keys of each schema version, are here or above. */
const WITHOUT_EFFECT = `data device backend workers jobs require_device log_every checkpoint_seconds
  keep_checkpoint_every resume_or_start out name overwrite tags report track quiet debug`.split(/\s+/);

const DEFAULTS = Object.fromEntries(Object.entries(SETTINGS).map(([name, [value]]) => [name, value]));

// Strict JSON

const TOKENS = /"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*|[{}[\]:,]/g;

/** A JSON object, and the same with numbers as texts after a NUL. Keys that occur twice and infinities are refused. */
export function parseObject(text, where) {
  let value;
  try {
    value = JSON.parse(text);
  } catch {
    refuse(`${where}: is not valid JSON`);
  }
  if (value === null || typeof value !== "object" || Array.isArray(value)) refuse(`${where}: expected a JSON object`);
  const open = [];
  const tokens = text.match(TOKENS);
  tokens.forEach((token, n) => {
    if (token === "{" || token === "[") open.push(new Set());
    else if (token === "}" || token === "]") open.pop();
    else if (token[0] === '"' && tokens[n + 1] === ":") {
      const key = JSON.parse(token);
      if (open.at(-1).has(key)) refuse(`${where}: the key ${JSON.stringify(key)} occurs twice: expected it once`);
      open.at(-1).add(key);
    } else if (/^[-\d]/.test(token) && !Number.isFinite(Number(token))) refuse(`${where}: expected finite numbers, got ${token}`);
  });
  const marked = text.replace(TOKENS, (token) => (/^[-\d]/.test(token) ? JSON.stringify(`\0${token}`) : token));
  return [value, JSON.parse(marked)];
}

/** JSON in ASCII with sorted keys and no spaces, with the numbers as they are written. */
function canonical(value) {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (value !== null && typeof value === "object") {
    const pairs = Object.keys(value).sort().map((key) => `${canonical(key)}:${canonical(value[key])}`);
    return `{${pairs.join(",")}}`;
  }
  if (typeof value === "string" && value[0] === "\0") return value.slice(1);
  const escape = (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
  return JSON.stringify(value).replace(/[\u007f-\uffff]/g, escape);
}

const encoder = new TextEncoder();
const decode = (bytes) => new TextDecoder("utf-8", { fatal: true }).decode(bytes);

// Data

const ROLES = ["x_train", "y_train", "x_test", "y_test"];
const IDX = [["train-images", "idx3-ubyte"], ["train-labels", "idx1-ubyte"], ["t10k-images", "idx3-ubyte"], ["t10k-labels", "idx1-ubyte"]];

/** The role of a data file by its name, or undefined. */
export function roleOf(name) {
  const index = IDX.findIndex(([stem, ending]) => new RegExp(`^${stem}[-.]${ending}(\\.gz)?$`).test(name));
  return ROLES[index] ?? ROLES.find((role) => name === `${role}.npy`);
}

async function unpack(bytes, where) {
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return bytes;
  if (typeof DecompressionStream === "undefined") refuse(`${where}: this browser cannot unpack it: unpack it yourself`);
  try {
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  } catch {
    return refuse(`${where}: is no intact gzip file`);
  }
}

const NPY_TYPES = {
  "|b1": Uint8Array, "|u1": Uint8Array, "|i1": Int8Array, "<u2": Uint16Array, "<i2": Int16Array, "<u4": Uint32Array,
  "<i4": Int32Array, "<u8": BigUint64Array, "<i8": BigInt64Array, "<f4": Float32Array, "<f8": Float64Array,
};

/** Shape and values of an IDX or a .npy file. */
function readArray(bytes, where) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let [type, shape, start] = [Uint8Array, [], 0];
  if (where.endsWith(".npy")) {
    const magic = String.fromCharCode(...bytes.subarray(0, 6));
    if (magic !== "\x93NUMPY" || bytes[6] !== 1) refuse(`${where}: is no .npy file of version 1`);
    start = 10 + view.getUint16(8, true);
    const header = String.fromCharCode(...bytes.subarray(10, start));
    const parts = /^\{'descr': '([^']*)', 'fortran_order': (False|True), 'shape': \(([\d, ]*)\), \}\s*$/.exec(header);
    if (parts === null) refuse(`${where}: its .npy header is damaged`);
    type = NPY_TYPES[parts[1]] ?? refuse(`${where}: has the type ${parts[1]}: this page takes little-endian numbers`);
    if (parts[2] === "True") refuse(`${where}: is in Fortran's order: this page takes C's`);
    shape = parts[3].split(",").map((size) => size.trim()).filter(Boolean).map(Number);
  } else {
    if (bytes.length < 4 || view.getUint16(0) !== 0 || bytes[2] !== 8) refuse(`${where}: is no IDX file of bytes`);
    start = 4 + 4 * bytes[3];
    if (bytes.length < start) refuse(`${where}: ends inside its header`);
    for (let at = 4; at < start; at += 4) shape.push(view.getUint32(at));
  }
  const size = shape.reduce((product, length) => product * length, type.BYTES_PER_ELEMENT);
  if (bytes.length !== start + size) refuse(`${where}: its sizes ${shape.join(" x ")} take ${size} bytes, ${bytes.length - start} follow`);
  return { shape, values: new type(bytes.slice(start).buffer) };
}

/** Features as pixels or floats, of rows. */
function readFeatures({ shape, values }, where) {
  if (shape.length < 2 || values.length === 0) refuse(`${where}: holds no features`);
  const features = values.length / shape[0];
  if (values instanceof Float32Array || values instanceof Float64Array) {
    if (!values.every(Number.isFinite)) refuse(`${where}: holds numbers that are not finite`);
    return { x: values, features };
  }
  if (values instanceof Uint8Array) return { x: values, features };
  if (!values.every((value) => value >= 0 && value <= 255)) refuse(`${where}: holds whole numbers outside 0 to 255`);
  return { x: Uint8Array.from(values, Number), features };
}

function readLabels({ shape, values }, where) {
  const isLabel = (value) => value >= 0 && value <= 65535 && Number(value) % 1 === 0;
  if (shape.length !== 1 && !(shape.length === 2 && shape[1] === 1)) refuse(`${where}: labels have one dimension`);
  if (!values.every(isLabel)) refuse(`${where}: a label is a whole number from 0 to 65535`);
  return Int32Array.from(values, Number);
}

/** Training and test samples (or null), classes, and the SHA-256 of all, of files by their roles. */
async function readData(files) {
  const arrays = {};
  for (const role of ROLES) {
    const file = files.find(({ name }) => roleOf(name) === role);
    if (file === undefined) continue;
    arrays[role] = readArray(await unpack(await file.read(), file.name), file.name);
    arrays[role] = role[0] === "x" ? readFeatures(arrays[role], file.name) : readLabels(arrays[role], file.name);
  }
  const samples = ["train", "test"].map((part) => {
    const [x, y] = [arrays[`x_${part}`], arrays[`y_${part}`]];
    if (x === undefined || y === undefined) return null;
    if (x.x.length !== y.length * x.features) refuse(`the ${part} data: have not as many labels as samples`);
    return { ...x, y, isPixels: x.x instanceof Uint8Array };
  });
  const [training, test] = samples;
  if (training === null) refuse("images or labels of the training samples are missing");
  if (test !== null && test.features !== training.features) refuse("training and test samples have other numbers of features");
  if (test !== null && test.isPixels !== training.isPixels) refuse("of training and test samples, one has pixels, the other floats");
  const isDouble = samples.some((part) => part?.x instanceof Float64Array);
  const largest = samples.flatMap((part) => (part === null ? [] : [part.y.reduce((a, b) => Math.max(a, b), 0)]));
  const digest = test === null ? null : digestOf(samples, isDouble);
  for (const part of samples) if (part !== null && !part.isPixels) part.x = toDoubles(isDouble ? Float64Array.from(part.x) : part.x);
  return { training, test, classes: Math.max(...largest) + 1, digest };
}

/** The SHA-256 of the data set, of which digest() of xpnet/data/datasets.py says what is hashed. */
function digestOf(samples, isDouble) {
  const parts = samples.flatMap(({ x, y, features, isPixels }, index) => {
    const values = isPixels || !isDouble ? x : Float64Array.from(x);
    const code = isPixels ? "|u1" : isDouble ? "<f8" : "<f4";
    const names = ROLES.slice(2 * index);
    return [`${names[0]} ${code} ${y.length}x${features}\n`, values, `${names[1]} <i4 ${y.length}\n`, y];
  });
  return sha256(...parts.map((part) => (typeof part === "string" ? encoder.encode(part) : part)));
}

// The record

const RUN_FILES = ["run.json", "metrics.jsonl", "model.safetensors"];
const CHECKPOINT = /^checkpoint.*$/;
const KEPT = /^checkpoint-([1-9][0-9]{0,15})\.safetensors$/;

/** The settings of the training and its record, which this page can verify. */
function readRecord(text) {
  const [record, raw] = parseObject(text, "run.json");
  const schema = [3, 4].includes(record.schema_version) ? SCHEMAS[record.schema_version] : null;
  if (schema === null || record.segments?.[0]?.epoch === null) refuse("run.json: was written by an older xpnet, or by a newer one: xpnet verify may read it");
  const { config, status, specification_version: version } = record;
  if (config === null || typeof config !== "object") refuse("run.json: config: expected an object");
  if (version === null || config.arithmetic !== "reproducible") refuse(`the run ${REQUIRED.arithmetic[1]}`);
  if (version !== SPECIFICATION_VERSION) refuse(`the run follows version ${version} of the specification: this page knows ${SPECIFICATION_VERSION}`);
  if (status !== "completed") refuse(`the run is ${status}: this page verifies completed ones`);
  if (record.data?.source !== undefined || record.data?.weights_sha256 !== undefined) refuse("the run was trained on arrays in Python, which are in no file");
  if (record.data?.feature_names !== undefined || record.data?.class_names !== undefined) refuse(`the run ${REQUIRED.missing[1]}`);
  for (const [name, [rule, reason]] of Object.entries(REQUIRED)) if (!rule(config[name] ?? null)) refuse(`the run ${reason}`);
  if (record.parent !== null || record.init_from_sha256 !== null) refuse("the run starts from another one: xpnet verify takes both");
  checkKeys("", record, schema.record);
  checkKeys("config.", config, schema.settings);
  if (!Array.isArray(record.segments)) refuse("run.json: segments: expected an array");
  record.segments.forEach((segment, n) => checkKeys(`segments[${n}].`, segment ?? {}, schema.segment));
  const known = [...Object.keys(SETTINGS), ...Object.keys(REQUIRED), ...WITHOUT_EFFECT];
  for (const name of schema.settings) if (!known.includes(name)) refuse(`run.json: config.${name}: this page does not know it`);
  const settings = { ...DEFAULTS };
  for (const name of schema.settings.filter((each) => each in SETTINGS)) {
    if (!SETTINGS[name][1](config[name])) refuse(`run.json: config.${name}: cannot be ${JSON.stringify(config[name])}`);
    settings[name] = config[name];
  }
  settings.seed = BigInt(raw.config.seed.slice(1));
  if (raw.seed !== raw.config.seed) differ(`run.json: seed: recorded ${record.seed} and config.seed ${config.seed}`);
  if (settings.patience !== null && settings.validation === 0) refuse("run.json: config.patience: needs validation samples");
  const resolved = bestBy({ ...settings, best_by: "auto" });
  if (settings.validation === 0 && "best_by" in config && config.best_by !== resolved) differ(`run.json: config.best_by: recorded ${config.best_by}, expected ${resolved}`);
  if (record.error !== null) differ(`run.json: error: recorded ${JSON.stringify(record.error)} and status ${status}`);
  return { record, raw, settings };
}

function checkKeys(where, values, known) {
  const [unknown] = Object.keys(values).filter((name) => !known.includes(name));
  const [missing] = known.filter((name) => !(name in values));
  if (unknown !== undefined) differ(`run.json: ${where}${unknown}: is no key of a record of this schema version`);
  if (missing !== undefined) differ(`run.json: ${where}${missing}: is missing`);
}

/** Compares the files of the run with their digests. */
function checkDigests({ record, raw }, contents, epochs) {
  const digests = record.digests;
  if (digests === null || typeof digests !== "object") differ("run.json: digests: are missing");
  const { "run.json": own, ...others } = raw.digests;
  const found = { "run.json": sha256(encoder.encode(canonical({ ...raw, digests: others }))) };
  for (const [name, bytes] of Object.entries(contents)) if (name !== "run.json") found[name] = sha256(bytes);
  for (const name of new Set([...Object.keys(digests), ...Object.keys(found)])) {
    if (CHECKPOINT.test(name) && name !== "checkpoint.safetensors" && !(Number(KEPT.exec(name)?.[1]) <= epochs)) differ(`${name}: is no file of this training`);
    if (found[name] === undefined && !CHECKPOINT.test(name)) differ(`${name}: is missing`);
    if (digests[name] === undefined) differ(`${name}: is not in the record`);
    if (found[name] !== undefined && found[name] !== digests[name]) {
      differ(`${name}: is not what was recorded (SHA-256 ${String(digests[name]).slice(0, 16)}…, found ${found[name].slice(0, 16)}…)`);
    }
  }
}

/** Compares what the record says of the data. */
function checkData({ name: _, ...recorded }, { training, test, classes, digest }) {
  if (digest !== recorded.sha256) refuse(`the run was trained on other data: SHA-256 ${String(recorded.sha256).slice(0, 16)}…, found ${digest.slice(0, 16)}…`);
  const counts = new Map();
  for (const label of training.y) counts.set(label, (counts.get(label) ?? 0) + 1);
  const found = { sha256: digest, training_samples: training.y.length, test_samples: test.y.length };
  Object.assign(found, { features: training.features, classes, largest_class: Math.max(...counts.values()) });
  compareObjects("run.json: data.", recorded, found);
}

/** Compares JSON values by their bits, the fingerprint first. */
function compareObjects(where, recorded, computed) {
  const names = [...new Set([...Object.keys(computed), ...Object.keys(recorded)])].filter((name) => name !== "seconds").sort();
  for (const name of names.sort((a, b) => (b === "fingerprint") - (a === "fingerprint"))) {
    const [left, right] = [recorded[name], computed[name]].map((value) => (value === undefined ? "nothing" : JSON.stringify(value)));
    if (left !== right || Object.is(recorded[name], -0)) differ(`${where}${name}: recorded ${left}, computed ${right}`);
  }
}

function readHistory(bytes) {
  const lines = decode(bytes).split("\n");
  if (lines.pop() !== "") differ(`metrics.jsonl, line ${lines.length + 1}: expected a line break at its end`);
  return lines.map((line, n) => parseObject(line, `metrics.jsonl, line ${n + 1}`)[0]);
}

/** The bytes of model.safetensors, and the places of its tensors. */
function encodeModel(network, settings, sizes) {
  const { shift, scale } = network.normalization;
  const tensors = { "normalization.shift": shift, "normalization.scale": scale };
  network.layers.forEach(({ W, b, norm }, i) => {
    Object.assign(tensors, { [`layers.${i}.weight`]: W, [`layers.${i}.bias`]: b });
    const names = ["weight", "bias", "running_mean", "running_var"];
    if (norm !== null) Object.values(norm).forEach((array, n) => (tensors[`norms.${i}.${names[n]}`] = array));
  });
  const header = {
    __metadata__: {
      format_version: "2", sizes: `[${sizes.join(", ")}]`, classes: String(sizes.at(-1)),
      activation: settings.activation, normalize: settings.normalize, specification: String(SPECIFICATION_VERSION),
    },
  };
  let end = 0;
  const places = Object.keys(tensors).sort().map((name) => {
    const tensor = tensors[name];
    const values = typeof tensor === "number" ? Float64Array.of(tensor) : tensor.data ?? tensor;
    const shape = typeof tensor === "number" ? [] : tensor.data ? [tensor.rows, tensor.columns] : [tensor.length];
    const begin = end;
    end += values.byteLength;
    header[name] = { dtype: "F64", shape, data_offsets: [begin, end] };
    return { name, begin, values };
  });
  const text = JSON.stringify(header);
  const head = encoder.encode(text.padEnd(8 * Math.ceil(text.length / 8)));
  const bytes = new Uint8Array(8 + head.length + end);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(head.length), true);
  bytes.set(head, 8);
  for (const { begin, values } of places) bytes.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), 8 + head.length + begin);
  return { bytes, start: 8 + head.length, places };
}

function compareModel(recorded, { bytes, start, places }) {
  const different = bytes.findIndex((byte, n) => byte !== recorded[n]);
  if (different < 0 && bytes.length === recorded.length) return;
  const place = places.findLast(({ begin }) => start + begin <= different);
  if (different < start || place === undefined) differ("model.safetensors: has a header that no training writes, with other metadata or tensors");
  const index = Math.floor((different - start - place.begin) / 8);
  const value = new DataView(recorded.slice(0, bytes.length).buffer).getFloat64(start + place.begin + 8 * index, true);
  differ(`model.safetensors: ${place.name}, number ${index}: recorded ${value}, computed ${place.values[index]}`);
}

/** The share of the samples of each class that are predicted right; null without samples. */
function recalls(predictions, labels, classes) {
  const [right, all] = [new Array(classes).fill(0), new Array(classes).fill(0)];
  labels.forEach((label, j) => {
    all[label]++;
    right[label] += predictions[j] === label ? 1 : 0;
  });
  return all.map((count, label) => (count === 0 ? null : right[label] / count));
}

const everything = (samples) => Uint32Array.from({ length: samples.y.length }, (_, position) => position);
const figures = (prefix, { loss, accuracy, score }) => {
  const values = { [`${prefix}_loss`]: loss, [`${prefix}_accuracy`]: accuracy };
  return score === undefined ? values : { ...values, [`${prefix}_score`]: score };
};

/**
 * Verifies a run from its files and those of its data, [{ name, read() }], by their names. Calls report({ fraction }) and
 * report({ row }) on the way. Returns { outcome: "same", "differs" or "refused", line, notes }.
 */
export async function verify(files, report = () => {}) {
  const names = files.map(({ name }) => name);
  const notes = [];
  try {
    const twice = names.find((name, n) => names.indexOf(name) !== n);
    if (twice !== undefined) refuse(`two files are named ${twice}: drop one run and its data`);
    const contents = {};
    for (const { name, read } of files) if (RUN_FILES.includes(name) || CHECKPOINT.test(name)) contents[name] = await read();
    for (const name of RUN_FILES) if (!names.includes(name)) refuse(`${name} is missing: drop the folder of a run`);
    const run = readRecord(decode(contents["run.json"]));
    checkDigests(run, contents, run.settings.epochs);
    const history = readHistory(contents["metrics.jsonl"]);
    const missing = ROLES.find((role) => !names.some((name) => roleOf(name) === role));
    if (missing !== undefined) refuse(`the data are missing (${missing}): drop the four IDX or .npy files too; other data are not taken`);
    const data = await readData(files);
    checkData(run.record.data, data);
    const rows = compareTraining(run, data, history, contents["model.safetensors"], report);
    const checkpoints = names.filter((name) => CHECKPOINT.test(name));
    const others = names.filter((name) => !(name in contents) && roleOf(name) === undefined);
    if (checkpoints.length > 0) notes.push(`Only by their SHA-256 in the record: ${checkpoints.join(", ")}.`);
    if (others.length > 0) notes.push(`Not looked at: ${others.join(", ")}.`);
    const { versions, source_sha256: source } = run.record;
    notes.push(`Recorded by xpnet ${versions?.xpnet}${source ? `, source ${source.slice(0, 16)}…` : ""}, which is not compared.`);
    const line = `${rows.epochs} epochs, ${rows.count} rows of the history, model, metrics and fingerprint are the same bits`;
    return { outcome: "same", line, notes, fingerprint: run.record.fingerprint };
  } catch (error) {
    if (error instanceof Difference) return { outcome: "differs", line: error.message, notes };
    return { outcome: "refused", line: error.message, notes };
  }
}

function compareTraining({ record, settings }, { training, test, classes }, history, model, report) {
  const { epochs, patience } = settings;
  const { log_every: every } = record.config;
  if (every !== "auto" && !whole(1)(every)) refuse(`run.json: config.log_every: cannot be ${JSON.stringify(every)}`);
  const interval = every === "auto" ? (epochs <= 20 || patience !== null ? 1 : Math.floor(epochs / 10)) : every;
  const rows = [...history];
  const steps = trainEpochs(settings, training, classes, (share) => report({ fraction: share }));
  let [next, last, positions] = [steps.next(), 0, null];
  for (; !next.done; next = steps.next()) {
    const { epoch, network, validation, isBest, isLast } = next.value;
    [last, positions] = [epoch, next.value.positions];
    const isLogged = epoch % interval === 0 || epoch === 0 || isBest || isLast;
    const computed = { epoch };
    if (isLogged) Object.assign(computed, figures("train", evaluate(settings, network, training, positions)));
    if (validation !== null) Object.assign(computed, figures("validation", validation));
    if (isLogged) computed.fingerprint = fingerprint(network);
    report({ epoch, epochs, row: computed });
    if (!isLogged && validation === null) continue;
    const recorded = rows.shift() ?? {};
    if (recorded.epoch !== epoch) differ(`metrics.jsonl: expected a row of epoch ${epoch}`);
    compareObjects(`epoch ${epoch}: `, recorded, computed);
  }
  if (rows.length > 0) differ(`metrics.jsonl: has a row of epoch ${rows[0].epoch}, which the training has not`);
  const { network, bestEpoch } = next.value;
  compareModel(model, encodeModel(network, settings, [training.features, ...settings.hidden, classes]));
  if (fingerprint(network) !== record.fingerprint) differ(`run.json: fingerprint: recorded ${record.fingerprint}, computed ${fingerprint(network)}`);
  const tested = evaluate(settings, network, test, everything(test));
  const metrics = { ...figures("train", evaluate(settings, network, training, positions)), ...figures("test", tested), epochs: last };
  metrics.test_accuracy_per_class = recalls(tested.predictions, test.y, classes);
  if (bestEpoch !== undefined) metrics.best_epoch = bestEpoch;
  const [held] = [training.y.length - positions.length];
  if (held > 0) Object.assign(metrics, figures("validation", evaluateHeld(settings, network, training, positions)));
  compareObjects("run.json: metrics.", record.metrics ?? {}, metrics);
  return { epochs: last, count: history.length };
}

function evaluateHeld(settings, network, samples, positions) {
  const others = new Set(positions);
  return validate(settings, network, samples, everything(samples).filter((position) => !others.has(position)));
}

/** Trains the default network, for so many epochs, on dropped files. Returns the line of the result and the fingerprint. */
export async function trainDefault(files, epochs, report = () => {}) {
  const { training, test, classes, digest } = await readData(files);
  if (!training.isPixels) refuse("expected images of whole numbers, as MNIST has");
  const settings = { ...DEFAULTS, epochs };
  const interval = Math.max(1, Math.floor(epochs / 10));
  const steps = trainEpochs(settings, training, classes, (fraction) => report({ fraction }));
  let next = steps.next();
  for (; !next.done; next = steps.next()) {
    const { epoch, network, positions, isLast } = next.value;
    const isLogged = epoch % interval === 0 || isLast;
    const row = isLogged ? { epoch, ...figures("train", evaluate(settings, network, training, positions)) } : { epoch };
    if (isLogged) row.fingerprint = fingerprint(network);
    report({ epoch, epochs, row });
  }
  const { network } = next.value;
  const tested = test === null ? {} : evaluate(settings, network, test, everything(test));
  return { fingerprint: fingerprint(network), accuracy: tested.accuracy, loss: tested.loss, digest, samples: training.y.length };
}
