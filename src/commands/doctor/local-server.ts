import type { Config } from "../../config.ts";
import { createLocalUrl } from "../local-url.ts";

const TIMEOUT_MS = 3_000;

/** The Parley that listens on PORT of this machine. */
export type LocalServer = {
  version: string;
  commit: string;
  isReady: boolean;
  /** The names of the readiness checks that fail. */
  failingChecks: string[];
};

/** Finds the Parley that listens on PORT. Returns null if there is none. */
export async function findLocalServer(config: Config): Promise<LocalServer | null> {
  if (config.PORT === 0) return null;
  const request = async (path: string) => {
    const response = await fetch(createLocalUrl(config, path), {
      signal: AbortSignal.timeout(TIMEOUT_MS),
      redirect: "manual",
      // The certificate is for the public host name, not for a loopback address.
      tls: { rejectUnauthorized: false },
    });
    return { status: response.status, text: await response.text() };
  };
  try {
    const [versionResponse, readyResponse] = await Promise.all([request("/version"), request("/readyz?verbose")]);
    const { version, commit } = JSON.parse(versionResponse.text) as Record<string, unknown>;
    if (typeof version !== "string" || typeof commit !== "string") return null;
    const failingChecks = [...readyResponse.text.matchAll(/^\[-\](\S+)/gm)].map(([, name = ""]) => name);
    return { version, commit, isReady: readyResponse.status === 200, failingChecks };
  } catch {
    return null;
  }
}
