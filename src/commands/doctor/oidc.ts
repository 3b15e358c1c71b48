import { abortable } from "../../lib/abortable.ts";
import { createKeySetFetcher } from "../../modules/auth/oidc/key-source.ts";
import { formatQuantity } from "../selftest/measurements.ts";
import { type DoctorCheck, REQUEST_TIMEOUT_MS } from "./check.ts";
import { compareWithDateHeader } from "./clock-reading.ts";
import { ok, problem, skipped } from "./finding.ts";

export const oidcCheck: DoctorCheck = {
  name: "oidc",
  async run({ config, isOffline, fetch, clockReadings }) {
    const issuer = config.OIDC_ISSUER;
    if (issuer === undefined) return [skipped("OIDC_ISSUER is not set.")];
    if (isOffline) return [skipped("--offline: the OIDC issuer is not called.")];
    const sentAtMs = Date.now();
    const fetchAndReadClock: typeof fetch = async (address, init) => {
      const response = await fetch(address, init);
      const reading = compareWithDateHeader(new URL(address).host, response.headers, sentAtMs);
      if (reading) clockReadings.push(reading);
      return response;
    };
    const timeoutSignal = AbortSignal.timeout(REQUEST_TIMEOUT_MS);
    try {
      const fetchKeys = createKeySetFetcher({ issuer, jwksUrl: config.OIDC_JWKS_URL, fetch: fetchAndReadClock });
      const keys = (await abortable(fetchKeys(timeoutSignal), timeoutSignal)) as { keys?: unknown } | null;
      if (Array.isArray(keys?.keys) && keys.keys.length > 0)
        return [ok(`The issuer ${issuer} has ${formatQuantity(keys.keys.length, "key")}.`)];
      return [problem(`The issuer ${issuer} has no keys; correct OIDC_JWKS_URL.`)];
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      const failure = timeoutSignal.aborted
        ? `did not respond within ${REQUEST_TIMEOUT_MS / 1_000} s`
        : `can't be used (${reason})`;
      return [
        problem(
          `The issuer ${issuer} ${failure}, so logins with its tokens fail; correct OIDC_ISSUER and OIDC_JWKS_URL, or check the network.`,
        ),
      ];
    }
  },
};
