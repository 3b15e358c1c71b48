import { createLog } from "../../src/lib/log.ts";

/** Set `TEST_LOG=debug` to see what the server says during a test. */
export const silentLog = createLog(process.env.TEST_LOG ?? "silent", "json");
