// Does one task of examples/browser in node, and prints the result as JSON: node browser_tasks.mjs FOLDER TASK WORD …
// trainings: the results of the entries of a file, or their errors. default: the fingerprints of epochs on MNIST.
// verify: the outcomes of runs, each a folder of the run and a folder of its data.
import { readdirSync, readFileSync } from "node:fs";

const [folder, task, ...words] = process.argv.slice(2);
const { train } = await import(`${folder}/xpnet.js`);
const { trainDefault, verify } = await import(`${folder}/verify.js`);
const read = (path) => JSON.parse(readFileSync(path, "utf8"));
const filesOf = (path) => readdirSync(path).map((name) => {
  return { name, read: async () => new Uint8Array(readFileSync(`${path}/${name}`)) };
});

function outcomeOf(training, file) {
  try {
    return train(training, file);
  } catch (error) {
    return error.message;
  }
}

const TASKS = {
  trainings: async (path) => read(path).trainings.map((training) => outcomeOf(training, read(path))),
  default: async (data, epochs) => {
    const fingerprints = {};
    const report = ({ row }) => row && (fingerprints[row.epoch] = row.fingerprint);
    return { result: await trainDefault(filesOf(data), Number(epochs), report), fingerprints };
  },
  verify: async (...paths) => {
    const outcomes = [];
    for (let n = 0; n < paths.length; n += 2) {
      outcomes.push(await verify([...filesOf(paths[n]), ...filesOf(paths[n + 1])]));
    }
    return outcomes;
  },
};
console.log(JSON.stringify(await TASKS[task](...words)));
