import type { Config } from "../../config.ts";
import type { Fetch } from "../../lib/outgoing/create-fetch.ts";
import type { ClockReading } from "./clock-reading.ts";
import { type Finding, problem } from "./finding.ts";
import type { LocalServer } from "./local-server.ts";

/** The context that all checks share. */
export type DoctorContext = {
  config: Config;
  /** Whether to skip requests to servers other than the database and Redis. */
  isOffline: boolean;
  /** Sends requests through the configured proxies. */
  fetch: Fetch;
  /** The Parley that listens on PORT; null if none does. */
  localServer: Promise<LocalServer | null>;
  /** Checks add the clock readings of other machines here. */
  clockReadings: ClockReading[];
};

/** A read-only check. */
export type DoctorCheck = {
  name: string;
  run(context: DoctorContext): Finding[] | Promise<Finding[]>;
};

/** Timeout of a request. */
export const REQUEST_TIMEOUT_MS = 5_000;
/** Timeout of a check, which may send several requests. */
const CHECK_TIMEOUT_MS = 8_000;

/** Runs a check. Errors and timeouts become findings. */
export async function runDoctorCheck(check: DoctorCheck, context: DoctorContext): Promise<Finding[]> {
  const timeoutFindings = Promise.withResolvers<Finding[]>();
  const timer = setTimeout(
    () =>
      timeoutFindings.resolve([
        problem(`The check did not finish within ${CHECK_TIMEOUT_MS / 1_000} s; run it again.`),
      ]),
    CHECK_TIMEOUT_MS,
  );
  try {
    return await Promise.race([(async () => check.run(context))(), timeoutFindings.promise]);
  } catch (error) {
    return [problem(`The check failed: ${error instanceof Error ? error.message : String(error)}`)];
  } finally {
    clearTimeout(timer);
  }
}
