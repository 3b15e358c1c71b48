// A process with the server's signal handling; signals.test.ts starts it with the failure to trigger.
import { untilAborted, watchProcess } from "../../src/commands/signals.ts";
import { createLog } from "../../src/lib/log.ts";

const signals = watchProcess(createLog("info", "json"));
if (process.argv[2] === "throw")
  setTimeout(() => {
    throw new Error("an uncaught error");
  }, 10);
if (process.argv[2] === "reject") void Promise.reject(new Error("an unhandled rejection"));
const timer = setInterval(() => {}, 1_000);
console.log("started");
await untilAborted(signals.stop);
console.log(`stopping, crashed: ${signals.hasCrashed()}`);
if (process.argv[2] === "twice") await untilAborted(signals.hurry);
clearInterval(timer);
process.exit(signals.hurry.aborted ? 7 : 0);
