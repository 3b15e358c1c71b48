// Handles signals as the server does. signals.test.ts starts this program. The argument is the mode: `throw` and `reject`
// simulate errors, and `twice` waits for a second signal.
import { waitForAbort, watchProcess } from "../../src/commands/signals.ts";
import { createLog } from "../../src/lib/log.ts";

const signals = watchProcess(createLog("info", "json"));
if (process.argv[2] === "throw")
  setTimeout(() => {
    throw new Error("an uncaught error");
  }, 10);
if (process.argv[2] === "reject") void Promise.reject(new Error("an unhandled rejection"));
const timer = setInterval(() => {}, 1_000);
console.log("started");
await waitForAbort(signals.stop);
console.log(`stopping, crashed: ${signals.hasCrashed()}`);
if (process.argv[2] === "twice") await waitForAbort(signals.stopNow);
clearInterval(timer);
process.exit(signals.stopNow.aborted ? 7 : 0);
