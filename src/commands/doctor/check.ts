import type { Config } from "../../config.ts";
import type { Fetch } from "../../lib/outgoing/create-fetch.ts";
import type { ClockReading } from "./clock-reading.ts";
import { type Finding, problem } from "./finding.ts";
import type { OwnServer } from "./own-server.ts";

/** What checks work with. */
export type DoctorContext = {
  config: Config;
  /** Whether to leave out everything that sends a request to other servers than the database and Redis. */
  isOffline: boolean;
  /** Requests to other servers, through the configured proxies. */
  fetch: Fetch;
  /** The server that listens on PORT; null if none does. */
  ownServer: Promise<OwnServer | null>;
  /** Filled by checks that learn the time of another machine. */
  clockReadings: ClockReading[];
};

/** One group of checks. It changes nothing. */
export type DoctorCheck = {
  name: string;
  find(context: DoctorContext): Finding[] | Promise<Finding[]>;
};

/** Time limit of a request to one server. */
export const REQUEST_TIMEOUT_MS = 5_000;
/** Time limit of a whole check, which may make several requests. */
const CHECK_TIMEOUT_MS = 8_000;

/** Makes a check. It never rejects, and ends in time even if the check doesn't. */
export async function runDoctorCheck(check: DoctorCheck, context: DoctorContext): Promise<Finding[]> {
  const late = Promise.withResolvers<Finding[]>();
  const timer = setTimeout(
    () => late.resolve([problem(`The check did not end within ${CHECK_TIMEOUT_MS / 1_000} s; run it again.`)]),
    CHECK_TIMEOUT_MS,
  );
  try {
    return await Promise.race([(async () => check.find(context))(), late.promise]);
  } catch (error) {
    return [problem(`The check failed: ${error instanceof Error ? error.message : String(error)}`)];
  } finally {
    clearTimeout(timer);
  }
}
