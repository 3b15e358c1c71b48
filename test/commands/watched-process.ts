// A process that watches itself as the server does; signals.test.ts starts it with what shall go wrong.
import { untilAborted, watchProcess } from "../../src/commands/signals.ts";
import { createLog } from "../../src/lib/log.ts";

const wishes = watchProcess(createLog("info", "json"));
if (process.argv[2] === "throw")
  setTimeout(() => {
    throw new Error("nobody caught this");
  }, 10);
if (process.argv[2] === "reject") void Promise.reject(new Error("nobody awaited this"));
const timer = setInterval(() => {}, 1_000);
console.log("started");
await untilAborted(wishes.stop);
console.log(`stopping, crashed: ${wishes.hasCrashed()}`);
if (process.argv[2] === "twice") await untilAborted(wishes.hurry);
clearInterval(timer);
process.exit(wishes.hurry.aborted ? 7 : 0);
