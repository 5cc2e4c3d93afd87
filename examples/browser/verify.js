// Reads the files of a run and its data, computes the training again with xpnet.js, and names the first difference.
// It believes nothing: what it does not know, it refuses or names.
import SCHEMAS from "../../xpnet/storage/schemas.json" with { type: "json" };
import { ACTIVATIONS, OPTIMIZERS, SPECIFICATION_VERSION, arraysOf, bestBy, evaluate, fingerprint, sha256, toDoubles, trainEpochs, validate } from "./xpnet.js";

/** A reason in one line why something cannot be read or verified, or what differs. */
class Refusal extends Error {}
class Difference extends Error {}
const refuse = (line) => { throw new Refusal(line); };
const differ = (line) => { throw new Difference(line); };

// Settings, and the types of the values in JSON: rules take a value as parseObject marks it, a number n… or a text s…

const isText = (value) => typeof value === "string" && value[0] === "s";
const isInteger = (value) => typeof value === "string" && /^n-?\d+$/.test(value);
const isFloat = (value) => typeof value === "string" && /^n.*[.eE]/.test(value);
const isBoolean = (value) => typeof value === "boolean";
const isAnything = () => true;
const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
const plain = (value) => (isText(value) ? value.slice(1) : isInteger(value) || isFloat(value) ? Number(value.slice(1)) : Array.isArray(value) ? value.map(plain) : value);
const either = (...rules) => (value) => rules.some((rule) => rule(value));
const orNull = (rule) => either((value) => value === null, rule);
const listOf = (rule) => (value) => Array.isArray(value) && value.every(rule);
const objectOf = (rule) => (value) => isObject(value) && Object.values(value).every(rule);
const text = (pattern) => (value) => isText(value) && pattern.test(value.slice(1));
const oneOf = (...choices) => (value) => choices.includes(plain(value)) && !isFloat(value);
const different = (rule) => (value) => listOf(rule)(value) && new Set(value).size === value.length;
const whole = (least, below = 2 ** 63) => (value) => isInteger(value) && Number(value.slice(1)) >= least && Number(value.slice(1)) < below;
const number = (isAllowed) => (value) => isFloat(value) && Number.isFinite(plain(value)) && isAllowed(plain(value));
const between = (least, most) => number((value) => value >= least && value <= most);
const POSITIVE = number((value) => value > 0);
const NOT_NEGATIVE = number((value) => value >= 0);
const SHARE = number((value) => value >= 0 && value < 1);

/** Default and rule of the settings with an effect on the bits. */
const SETTINGS = {
  validation: [0, either(whole(0), number((value) => value > 0 && value < 1))],
  normalize: ["scale", oneOf("scale", "standardize", "none")],
  augment_shift: [0, between(0, 1000)],
  augment_rotate: [0, between(0, 180)],
  augment_scale: [0, between(0, 0.9)],
  augment_shear: [0, between(0, 10)],
  augment_elastic_alpha: [0, between(0, 10000)],
  augment_elastic_sigma: [null, orNull(between(0.1, 100))],
  augment_thickness: [0, between(0, 1)],
  augment_fade_epochs: [0, whole(0)],
  hidden: [[10], listOf(whole(1))],
  activation: ["relu", oneOf(...Object.keys(ACTIVATIONS))],
  batch_norm: [false, isBoolean],
  dropout: [0, SHARE],
  input_dropout: [0, SHARE],
  input_noise: [0, NOT_NEGATIVE],
  init: ["uniform", oneOf("uniform", "he", "glorot")],
  epochs: [100, whole(0)],
  batch_size: ["full", either(oneOf("full"), whole(1))],
  loss: ["cross-entropy", oneOf("cross-entropy", "squared-error")],
  label_smoothing: [0, SHARE],
  class_weight: ["none", oneOf("none", "balanced")],
  patience: [null, orNull(whole(1))],
  best_by: ["accuracy", oneOf("accuracy", "weighted-accuracy", "balanced-accuracy", "loss")],
  average_epochs: [1, whole(1)],
  seed: [0, (value) => isInteger(value) && BigInt(value.slice(1)) >= 0n && BigInt(value.slice(1)) < 1n << 64n],
  optimizer: ["sgd", oneOf(...Object.keys(OPTIMIZERS))],
  momentum: [null, orNull(SHARE)],
  learning_rate: [0.1, POSITIVE],
  schedule: ["constant", oneOf("constant", "step", "exponential", "cosine")],
  schedule_step_epochs: [null, orNull(whole(1))],
  schedule_factor: [null, orNull(number((value) => value > 0 && value <= 1))],
  warmup_epochs: [0, whole(0)],
  weight_decay: [null, orNull(NOT_NEGATIVE)],
  clip_norm: [null, orNull(POSITIVE)],
  max_norm: [null, orNull(POSITIVE)],
};
const OF_CSV = "has the data of a CSV file: this page takes IDX and .npy files";
/** The values that the settings of data, start and arithmetic must have here, and the reason. */
const REQUIRED = {
  encode: [oneOf("none"), "has encoded columns: xpnet verify"],
  arithmetic: [oneOf("reproducible"), "was trained in native arithmetic, which gives other bits on other machines"],
  dtype: [oneOf("auto", "float64"), "was trained in another dtype than float64"],
  init_from: [oneOf(null), "started from a model file: xpnet verify takes it"],
  extend: [oneOf(null), "extends another run: xpnet verify takes both"],
  resume: [oneOf(null), "names a run that it resumes, as no record of one training does"],
  repeats: [oneOf(1), "has several seeds, as no record of one training does"],
  jobs: [oneOf(1), "has jobs, as only several trainings have"],
  ...Object.fromEntries(["test_data", "test_split", "label"].map((name) => [name, [oneOf(null), OF_CSV]])),
  missing: [oneOf("error"), OF_CSV],
  columns: [oneOf("auto"), OF_CSV],
  drop: [(value) => plain(value).length === 0, OF_CSV],
  unknown: [oneOf("error"), OF_CSV],
};
const isFolderName = (value) => isText(value) && new TextEncoder().encode(value).length <= 256
  && /^(?!\.)(?!(con|prn|aux|nul|(com|lpt)[1-9¹²³]) *(\.|$))(?=.*\S)([^\p{C}\p{Z}/\\]|[ ])+$/iu.test(value.slice(1));
/** The rules of those with none; the settings of SCHEMAS, which has settings and keys by schema version, are here or above. */
const WITHOUT_EFFECT = {
  data: orNull(text(/^[^\0]+$/)),
  device: text(/^[\p{L}\p{N}_:.-]+$/u),
  backend: oneOf("auto", "numpy", "cupy", "torch", "jax", "dpnp", "array-api-strict"),
  workers: either(oneOf("auto"), whole(1)),
  require_device: isBoolean,
  log_every: either(oneOf("auto"), whole(1)),
  checkpoint_seconds: orNull(POSITIVE),
  keep_checkpoint_every: orNull(whole(1)),
  resume_or_start: isBoolean,
  out: text(/^[^\0]+$/),
  name: orNull(isFolderName),
  overwrite: isBoolean,
  tags: different(text(/^[\p{L}\p{N}_][\p{L}\p{N}_.:-]{0,63}$/u)),
  report: isBoolean,
  track: different(oneOf("wandb", "trackio", "mlflow")),
  quiet: isBoolean,
  debug: isBoolean,
};
/** What contradicts itself, as in xpnet/config/constraints.py. */
const CONTRADICTIONS = {
  augment_elastic_sigma: (c) => c.augment_elastic_sigma !== null && c.augment_elastic_alpha === 0,
  augment_fade_epochs: (c) => c.augment_fade_epochs > 0 && (c.augment_fade_epochs > c.epochs || DISTORTED.every((name) => c[name] === 0)),
  activation: (c) => c.activation !== "relu" && c.hidden.length === 0,
  batch_norm: (c) => c.batch_norm && (c.hidden.length === 0 || c.batch_size === 1),
  dropout: (c) => c.dropout > 0 && c.hidden.length === 0,
  overwrite: (c) => c.overwrite && c.name === null,
  resume_or_start: (c) => c.resume_or_start && (c.name === null || c.overwrite),
  patience: (c) => c.patience !== null && c.validation === 0,
  average_epochs: (c) => c.average_epochs > 1 && (c.patience !== null || c.average_epochs > Math.max(c.epochs, 1)),
  momentum: (c) => c.momentum !== null && !["momentum", "nesterov"].includes(c.optimizer),
  schedule_step_epochs: (c) => c.schedule_step_epochs !== null && c.schedule !== "step",
  schedule_factor: (c) => c.schedule_factor !== null && c.schedule === "constant",
  warmup_epochs: (c) => c.warmup_epochs > c.epochs,
};
const DISTORTED = ["shift", "rotate", "scale", "shear", "elastic_alpha", "thickness"].map((name) => `augment_${name}`);

const isCommit = orNull(objectOf(either(isText, isBoolean)));
const isNumber = either(isInteger, isFloat);
/** The types of the values of a record, and of a part of its training. */
const RECORD = {
  schema_version: isInteger, id: isAnything, status: isText, started: isText, segments: listOf(isObject),
  command: listOf(isText), config: isObject, seed: isInteger, parent: orNull(isObject), init_from_sha256: orNull(isText),
  specification_version: orNull(isInteger), device_requested: isText, device_used: isText, device_reason: orNull(isText),
  backend: isText, data: isObject, python: isText, platform: isText, source_sha256: isText, versions: objectOf(isText),
  working_folder_commit: isCommit, xpnet_commit: isCommit, ended: orNull(isText),
  metrics: orNull(objectOf(orNull(either(isNumber, listOf(orNull(isNumber)))))), fingerprint: orNull(isText),
  error: orNull(isText), digests: orNull(objectOf(isText)),
};
const SEGMENT = {
  started: isText, epoch: isInteger, backend: isText, device: isText, ranks: isInteger, hosts: listOf(isText), mpi: orNull(isText), places: listOf(isText),
};

const DEFAULTS = Object.fromEntries(Object.entries(SETTINGS).map(([name, [value]]) => [name, value]));

// Strict JSON

const TOKENS = /("(?:[^"\\]|\\.)*"(?=\s*:))|"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*|[{}[\]:,]/g;
const get = (object, name) => (Object.hasOwn(object, name) ? object[name] : undefined);

/** A JSON object, and the same with numbers as texts n… and texts as s…. Keys that occur twice and infinities are refused. */
export function parseObject(text, where) {
  let value;
  try {
    value = JSON.parse(text);
  } catch {
    refuse(`${where}: is not valid JSON`);
  }
  if (!isObject(value)) refuse(`${where}: expected a JSON object`);
  const open = [];
  for (const [token, name] of text.matchAll(TOKENS)) {
    if (token === "{" || token === "[") open.push(new Set());
    else if (token === "}" || token === "]") open.pop();
    else if (name !== undefined) {
      const key = JSON.parse(name);
      if (open.at(-1).has(key)) refuse(`${where}: the key ${JSON.stringify(key)} occurs twice: expected it once`);
      open.at(-1).add(key);
    } else if (/^[-\d]/.test(token) && !Number.isFinite(Number(token))) refuse(`${where}: expected finite numbers, got ${token}`);
  }
  const marked = text.replace(TOKENS, (token, name) => (name !== undefined ? name : token[0] === '"' ? `"s${token.slice(1)}` : /^[-\d]/.test(token) ? `"n${token}"` : token));
  return [value, JSON.parse(marked)];
}

const byCodePoints = (a, b) => {
  const [left, right] = [[...a], [...b]];
  const n = left.findIndex((character, place) => character !== right[place]);
  return n < 0 ? left.length - right.length : left[n].codePointAt(0) - (right[n]?.codePointAt(0) ?? -1);
};

/** JSON in ASCII with sorted keys and no spaces, of marked values, with the numbers as they are written. */
function canonical(value) {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (isObject(value)) {
    const pairs = Object.keys(value).sort(byCodePoints).map((key) => `${canonical(`s${key}`)}:${canonical(value[key])}`);
    return `{${pairs.join(",")}}`;
  }
  if (typeof value === "string" && value[0] === "n") return value.slice(1);
  const escape = (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
  return JSON.stringify(isText(value) ? value.slice(1) : value).replace(/[\u007f-\uffff]/g, escape);
}

const encoder = new TextEncoder();
const decode = (bytes) => new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes); // which keeps the mark

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
const LAST = "checkpoint.safetensors";
const CHECKPOINT = /^checkpoint.*$/;
const KEPT = /^checkpoint-([1-9][0-9]{0,15})\.safetensors$/;

/** The settings of the training and its record, which this page can verify. */
function readRecord(text) {
  const [record, raw] = parseObject(text, "run.json");
  const schema = ["n3", "n4"].includes(raw.schema_version) ? SCHEMAS[record.schema_version] : null;
  if (schema === null) refuse("run.json: was written by an older xpnet, or by a newer one: xpnet verify may read it");
  checkKeys("", raw, schema.record, RECORD);
  const { config, status, specification_version: version } = record;
  if (version === null || config.arithmetic !== "reproducible") refuse(`the run ${REQUIRED.arithmetic[1]}`);
  if (version !== SPECIFICATION_VERSION) refuse(`the run follows version ${version} of the specification: this page knows ${SPECIFICATION_VERSION}`);
  if (status !== "completed") refuse(`the run is ${status}: this page verifies completed ones`);
  for (const [name, [rule, reason]] of Object.entries(REQUIRED)) if (schema.settings.includes(name) && !rule(get(raw.config, name) ?? null)) refuse(`the run ${reason}`);
  if (Object.hasOwn(record.data, "source") || Object.hasOwn(record.data, "weights_sha256")) refuse("the run was trained on arrays in Python, which are in no file");
  if (Object.hasOwn(record.data, "feature_names") || Object.hasOwn(record.data, "class_names")) refuse(`the run ${OF_CSV}`);
  if (record.parent !== null || record.init_from_sha256 !== null) refuse("the run starts from another one: xpnet verify takes both");
  const rules = { ...WITHOUT_EFFECT };
  for (const part of [SETTINGS, REQUIRED]) for (const [name, pair] of Object.entries(part)) rules[name] = part === SETTINGS ? pair[1] : pair[0];
  for (const name of schema.settings) if (!Object.hasOwn(rules, name)) refuse(`run.json: config.${name}: this page does not know it`);
  checkKeys("config.", raw.config, schema.settings, rules);
  if (raw.segments.length === 0) refuse("run.json: segments: expected at least one, got []");
  raw.segments.forEach((segment, n) => checkKeys(`segments[${n}].`, segment, schema.segment, SEGMENT));
  if (raw.segments[0].epoch !== "n0") differ(`run.json: segments[0].epoch: recorded ${record.segments[0].epoch}, expected 0`);
  const settings = { ...DEFAULTS, ...Object.fromEntries(schema.settings.filter((each) => each in SETTINGS).map((name) => [name, config[name]])) };
  settings.seed = BigInt(raw.config.seed.slice(1));
  if (raw.seed !== raw.config.seed) differ(`run.json: seed: recorded ${record.seed} and config.seed ${config.seed}`);
  for (const [name, contradicts] of Object.entries(CONTRADICTIONS)) if (contradicts({ ...config, ...settings })) refuse(`run.json: config.${name}: contradicts the other settings`);
  const folder = config.data === null ? "mnist" : config.data.split(/[\\/]/).filter(Boolean).at(-1);
  if (![folder, folder?.replace(/\.[^.]*$/, "")].includes(record.data.name) && !/^\.*$/.test(folder ?? "")) {
    refuse(`run.json: data.name: ${JSON.stringify(record.data.name)} is not that of config.data, ${folder}: xpnet verify compares them`);
  }
  const resolved = bestBy({ ...settings, best_by: "auto" });
  if (settings.validation === 0 && "best_by" in config && config.best_by !== resolved) differ(`run.json: config.best_by: recorded ${config.best_by}, expected ${resolved}`);
  if (record.error !== null) differ(`run.json: error: recorded ${JSON.stringify(record.error)} and status ${status}`);
  return { record, raw, settings };
}

function checkKeys(where, values, known, rules) {
  const [unknown] = Object.keys(values).filter((name) => !known.includes(name));
  const [missing] = known.filter((name) => !Object.hasOwn(values, name));
  if (unknown !== undefined) differ(`run.json: ${where}${unknown}: is no key of a record of this schema version`);
  if (missing !== undefined) refuse(`run.json: ${where}${missing}: is missing`);
  for (const name of known) if (!rules[name](values[name])) refuse(`run.json: ${where}${name}: cannot be ${canonical(values[name])}`);
}

/** Compares the files of the run with their digests. Returns the names of the checkpoints that are missing. */
function checkDigests({ record, raw }, contents) {
  if (raw.digests === null) differ("run.json: digests: are missing");
  const { "run.json": own, ...others } = raw.digests;
  const found = { "run.json": sha256(encoder.encode(canonical({ ...raw, digests: others }))) };
  for (const [name, bytes] of Object.entries(contents)) if (name !== "run.json") found[name] = sha256(bytes);
  const { metrics, config, digests } = record;
  for (const name of new Set([...Object.keys(digests), ...Object.keys(found)])) {
    const [recorded, digest, epoch] = [get(digests, name), get(found, name), Number(KEPT.exec(name)?.[1])];
    const neverWas = digest === undefined && !(epoch % config.keep_checkpoint_every === 0);
    if (CHECKPOINT.test(name) && name !== LAST && (neverWas || !(epoch <= metrics?.epochs))) differ(`${name}: is no file of this training`);
    if (digest === undefined && !CHECKPOINT.test(name)) differ(`${name}: is missing`);
    if (recorded === undefined) differ(`${name}: is not in the record`);
    if (digest !== undefined && digest !== recorded) {
      differ(`${name}: is not what was recorded (SHA-256 ${recorded.slice(0, 16)}…, found ${digest.slice(0, 16)}…)`);
    }
  }
  return Object.keys(digests).filter((name) => !Object.hasOwn(found, name));
}

/** Compares what the record says of the data. */
function checkData({ name, ...recorded }, { training, test, classes, digest }) {
  if (!isText(name) || !isText(get(recorded, "sha256"))) refuse("run.json: data: expected a name and a SHA-256");
  const { sha256: sha } = plainObject(recorded);
  if (digest !== sha) refuse(`the run was trained on other data: SHA-256 ${sha.slice(0, 16)}…, found ${digest.slice(0, 16)}…`);
  const counts = new Map();
  for (const label of training.y) counts.set(label, (counts.get(label) ?? 0) + 1);
  const found = { sha256: digest, training_samples: training.y.length, test_samples: test.y.length };
  Object.assign(found, { features: training.features, classes, largest_class: Math.max(...counts.values()) });
  compareObjects("run.json: data.", recorded, found);
}

const plainObject = (values) => Object.fromEntries(Object.entries(values).map(([name, value]) => [name, plain(value)]));
const INTEGERS = `epoch epochs best_epoch training_samples test_samples features classes largest_class batch rows`.split(" ");

/** Whether a marked JSON value is a computed one: its bits, written as an integer or as a float. */
function isSame(recorded, computed, ofInteger) {
  if (Array.isArray(computed)) return Array.isArray(recorded) && recorded.length === computed.length && computed.every((value, n) => isSame(recorded[n], value, ofInteger));
  if (typeof computed !== "number" || !Number.isFinite(computed)) return recorded === (typeof computed === "string" ? `s${computed}` : null);
  return (ofInteger ? isInteger : isFloat)(recorded) && Object.is(plain(recorded), computed);
}

/** Compares marked JSON values by their bits with computed ones, the fingerprint first. */
function compareObjects(where, recorded, computed) {
  const names = [...new Set([...Object.keys(computed), ...Object.keys(recorded)])].filter((name) => name !== "seconds").sort();
  if (!orNull(either(isNumber, (value) => value === undefined))(get(recorded, "seconds"))) refuse(`${where}seconds: expected a number`);
  for (const name of names.sort((a, b) => (b === "fingerprint") - (a === "fingerprint"))) {
    const [left, right] = [get(recorded, name), get(computed, name)];
    if (left !== undefined && right !== undefined && isSame(left, right, INTEGERS.includes(name))) continue;
    differ(`${where}${name}: recorded ${left === undefined ? "nothing" : canonical(left)}, computed ${right === undefined ? "nothing" : JSON.stringify(right)}`);
  }
}

function readHistory(bytes) {
  const lines = decode(bytes).split("\n");
  if (lines.pop() !== "") differ(`metrics.jsonl, line ${lines.length + 1}: expected a line break at its end`);
  return lines.map((line, n) => parseObject(line, `metrics.jsonl, line ${n + 1}`)[1]);
}

/** The bytes of a .safetensors file of tensors, { name: number, array or { data, rows, columns } }, and their places. */
function encodeTensors(tensors, metadata) {
  const header = { __metadata__: metadata };
  let end = 0;
  const places = Object.keys(tensors).sort(byCodePoints).map((name) => {
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
  for (const { begin, values } of places) bytes.set(bytesOf(values), 8 + head.length + begin);
  return { bytes, start: 8 + head.length, places };
}

const bytesOf = (values) => new Uint8Array(values.buffer, values.byteOffset, values.byteLength);

/** The bytes of model.safetensors, and the places of its tensors. */
function encodeModel(network, settings, sizes) {
  const { shift, scale } = network.normalization;
  const tensors = { "normalization.shift": shift, "normalization.scale": scale };
  network.layers.forEach(({ W, b, norm }, i) => {
    Object.assign(tensors, { [`layers.${i}.weight`]: W, [`layers.${i}.bias`]: b });
    const names = ["weight", "bias", "running_mean", "running_var"];
    if (norm !== null) Object.values(norm).forEach((array, n) => (tensors[`norms.${i}.${names[n]}`] = array));
  });
  return encodeTensors(tensors, {
    format_version: "2", sizes: `[${sizes.join(", ")}]`, classes: String(sizes.at(-1)),
    activation: settings.activation, normalize: settings.normalize, specification: String(SPECIFICATION_VERSION),
  });
}

/** Compares a file with the bytes that it should have, and names the first number that differs. */
function compareFile(name, recorded, { bytes, start, places }) {
  const different = bytes.findIndex((byte, n) => byte !== recorded[n]);
  if (different < 0 && bytes.length === recorded.length) return;
  const place = places.findLast(({ begin }) => start + begin <= different);
  if (different < start || place === undefined) differ(`${name}: has a header that no training writes, with other metadata or tensors`);
  const index = Math.floor((different - start - place.begin) / 8);
  const value = new DataView(recorded.slice(0, bytes.length).buffer).getFloat64(start + place.begin + 8 * index, true);
  differ(`${name}: ${place.name}, number ${index}: recorded ${value}, computed ${place.values[index]}`);
}

/** The arrays of a checkpoint by their names, of a state as trainEpochs yields it. */
function tensorsOf({ network, optimizer, best, sum }, settings) {
  const tensors = {};
  const column = (array) => (array.data ? array : { data: array, rows: array.length, columns: 1 });
  const put = (name, array) => (tensors[name] = column(array));
  const shapes = network.layers.map(({ W }) => W);
  /** Arrays in the order of the parameters, without running statistics. */
  const putParameters = (prefix, arrays) => {
    let index = 0;
    const rest = [...arrays];
    network.layers.forEach(({ norm }, i) => {
      tensors[`${prefix}.${index}.weight`] = { data: rest.shift(), rows: shapes[i].rows, columns: shapes[i].columns };
      put(`${prefix}.${index++}.bias`, rest.shift());
      if (norm !== null) for (const name of ["gamma", "beta"]) put(`${prefix}.${index}.${name}`, rest.shift());
      index += norm === null ? 0 : 1;
    });
  };
  /** Arrays in the order of arraysOf: those of a layer, and of its norm with the running statistics. */
  const putAll = (parameters, statistics, arrays) => {
    const [own, rest] = [[], [...arrays]];
    let index = 0;
    for (const { norm } of network.layers) {
      own.push(...rest.splice(0, norm === null ? 2 : 4));
      if (norm === null) continue;
      for (const name of ["mean", "variance"]) put(`${statistics}.${index}.${name}`, rest.shift());
      index++;
    }
    putParameters(parameters, own);
  };
  putAll("state.0", "state.1", arraysOf(network));
  const { vs, ms, c1, c2 } = optimizer;
  const { state } = OPTIMIZERS[settings.optimizer];
  if (state.length === 1) putParameters("state.2", vs);
  if (state.length === 2) {
    putParameters("state.2.m", ms);
    putParameters("state.2.v", vs);
    for (const [name, total] of Object.entries({ m_total: c1, v_total: c2 })) put(`state.2.${name}`, Float64Array.of(total));
  }
  if (best !== null) putAll("best.0", "best.1", best.arrays);
  if (sum !== null) putAll("sum.0", "sum.1", sum);
  return tensors;
}

const CRC = Int32Array.from({ length: 256 }, (_, n) => { for (let k = 0; k < 8; k++) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1; return n; });
const crc32 = (bytes, sum = 0) => ~bytes.reduce((crc, byte) => CRC[(crc ^ byte) & 255] ^ (crc >>> 8), ~sum);
const FACTS = /^\{"epoch": (\d+), "batch": (\d+), "rows": (\d+), "seconds": (\d[\d.e+-]*), "best": \[(\d+), (-?\d[\d.e+-]*), (-?\d[\d.e+-]*)\]\}$/;

/** Compares a checkpoint with a state. Its facts are those of the state, but for the seconds. */
function compareCheckpoint(name, recorded, state, settings, epoch, rows) {
  const length = recorded.length < 8 ? 0 : Number(new DataView(recorded.buffer, recorded.byteOffset).getBigUint64(0, true));
  const [header] = length < recorded.length ? parseObject(decode(recorded.subarray(8, 8 + length)), name) : [{}];
  const { facts } = header.__metadata__ ?? {};
  const found = FACTS.exec(facts);
  const best = state.best === null ? [0, -1, 0] : [state.best.epoch, state.best.score ?? state.best.accuracy, state.best.loss];
  const computed = { epoch, batch: 0, rows, best_epoch: best[0], best_score: best[1], best_loss: best[2] };
  if (found === null) differ(`${name}: has a header that no training writes, with other metadata or tensors`);
  const [, epochs, batch, count, , ...others] = found.map((text) => `n${text}`);
  compareObjects(`${name}: `, { epoch: epochs, batch, rows: count, best_epoch: others[0], best_score: others[1], best_loss: others[2] }, computed);
  const tensors = tensorsOf(state, settings);
  let sum = crc32(encoder.encode(facts));
  for (const each of Object.keys(tensors).sort(byCodePoints)) {
    const { data, rows: height, columns } = tensors[each];
    sum = crc32(bytesOf(data), crc32(encoder.encode(`["${each}", "<f8", [${height}, ${columns}]]`), sum));
  }
  const checksum = (sum >>> 0).toString(16).padStart(8, "0");
  const metadata = { format: "xpnet-snapshot", format_version: "2", facts, specification: String(SPECIFICATION_VERSION), checksum };
  compareFile(name, recorded, encodeTensors(tensors, metadata));
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
    const absent = checkDigests(run, contents);
    const history = readHistory(contents["metrics.jsonl"]);
    const missing = ROLES.find((role) => !names.some((name) => roleOf(name) === role));
    if (missing !== undefined) refuse(`the data are missing (${missing}): drop the four IDX or .npy files too; other data are not taken`);
    const data = await readData(files);
    checkData(run.raw.data, data);
    const rows = compareTraining(run, data, history, contents, report);
    const others = names.filter((name) => !(name in contents) && roleOf(name) === undefined && ![".lock", "report.html"].includes(name));
    const parts = `${rows.epochs} epochs, ${rows.count} rows of the history, model, ${names.some((name) => CHECKPOINT.test(name)) ? "checkpoints, " : ""}metrics and fingerprint are the same bits`;
    const { versions, source_sha256: source } = run.record;
    notes.push(`Recorded by xpnet ${versions.xpnet}${source ? `, source ${source.slice(0, 16)}…` : ""}, which is not compared.`);
    const without = absent.length > 0 ? `, but for ${absent.join(", ")}, which ${absent.length > 1 ? "are" : "is"} missing` : "";
    const line = `${parts}${without}${others.length > 0 ? `; not compared: ${others.join(", ")}` : ""}`;
    return { outcome: "same", ...(without ? { word: `The same bits${without}` } : {}), line, notes, fingerprint: run.record.fingerprint };
  } catch (error) {
    if (error instanceof Difference) return { outcome: "differs", line: error.message, notes };
    return { outcome: "refused", line: error.message, notes };
  }
}

function compareTraining({ record, raw, settings }, { training, test, classes }, history, contents, report) {
  const { epochs, patience } = settings;
  const { log_every: every } = record.config;
  const interval = every === "auto" ? (epochs <= 20 || patience !== null ? 1 : Math.floor(epochs / 10)) : every;
  const rows = [...history];
  const steps = trainEpochs(settings, training, classes, (share) => report({ fraction: share }));
  let [next, last, positions, count, state] = [steps.next(), 0, null, 0, null];
  for (; !next.done; next = steps.next()) {
    const { epoch, network, validation, isBest, isLast } = next.value;
    [last, positions, state] = [epoch, next.value.positions, next.value.state()];
    const isLogged = epoch % interval === 0 || epoch === 0 || isBest || isLast;
    const computed = { epoch };
    if (isLogged) Object.assign(computed, figures("train", evaluate(settings, network, training, positions)));
    if (validation !== null) Object.assign(computed, figures("validation", validation));
    if (isLogged) computed.fingerprint = fingerprint(network);
    report({ epoch, epochs, row: computed });
    if (isLogged || validation !== null) {
      const recorded = rows.shift() ?? {};
      if (get(recorded, "epoch") !== `n${epoch}`) differ(`metrics.jsonl: expected a row of epoch ${epoch}`);
      compareObjects(`epoch ${epoch}: `, recorded, computed);
      count++;
    }
    const kept = `checkpoint-${epoch}.safetensors`;
    if (Object.hasOwn(contents, kept)) compareCheckpoint(kept, contents[kept], { network, ...state }, settings, epoch, count);
    if (isLast && Object.hasOwn(contents, LAST)) compareCheckpoint(LAST, contents[LAST], { network, ...state }, settings, epoch, count);
  }
  if (rows.length > 0) differ(`metrics.jsonl: has a row of epoch ${canonical(get(rows[0], "epoch") ?? null)}, which the training has not`);
  const { network, bestEpoch } = next.value;
  compareFile("model.safetensors", contents["model.safetensors"], encodeModel(network, settings, [training.features, ...settings.hidden, classes]));
  if (fingerprint(network) !== record.fingerprint) differ(`run.json: fingerprint: recorded ${record.fingerprint}, computed ${fingerprint(network)}`);
  const tested = evaluate(settings, network, test, everything(test));
  const trained = evaluate(settings, network, training, positions);
  const metrics = { ...figures("train", trained), ...figures("test", tested), epochs: last };
  metrics.test_accuracy_per_class = recalls(tested.predictions, test.y, classes);
  if (settings.class_weight === "balanced" && record.schema_version > 3) {
    metrics.train_accuracy_per_class = recalls(trained.predictions, Array.from(positions, (position) => training.y[position]), classes);
  }
  if (bestEpoch !== undefined) metrics.best_epoch = bestEpoch;
  const [held] = [training.y.length - positions.length];
  if (held > 0) Object.assign(metrics, figures("validation", evaluateHeld(settings, network, training, positions)));
  compareObjects("run.json: metrics.", raw.metrics ?? {}, metrics);
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
