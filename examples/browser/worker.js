// The worker of the page: trains or verifies the files that it is sent, and reports on the way.
import { trainDefault, verify } from "./verify.js";

const REPORTS_EVERY = 100; // milliseconds

onmessage = async ({ data: { task, files, epochs } }) => {
  const readable = files.map((file) => ({
    name: file.name,
    read: async () => new Uint8Array(await file.arrayBuffer()),
  }));
  let last = -Infinity;
  const report = (progress) => {
    if (!progress.row && performance.now() - last < REPORTS_EVERY) return;
    last = performance.now();
    postMessage({ progress });
  };
  try {
    const result = task === "train" ? await trainDefault(readable, epochs, report) : await verify(readable, report);
    postMessage({ result });
  } catch (error) {
    postMessage({ result: { outcome: "refused", line: error.message, notes: [] } });
  }
};
