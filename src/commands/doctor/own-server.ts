import type { Config } from "../../config.ts";
import { createOwnUrl } from "../own-url.ts";

const TIMEOUT_MS = 3_000;

/** A Parley that listens on PORT of this machine. */
export type OwnServer = {
  version: string;
  commit: string;
  isReady: boolean;
  /** The checks of its /readyz that fail. */
  failed: string[];
};

/** Asks the server on PORT what it is; null if nothing there responds as Parley does. */
export async function findOwnServer(config: Config): Promise<OwnServer | null> {
  if (config.PORT === 0) return null;
  const read = async (path: string) => {
    const response = await fetch(createOwnUrl(config, path), {
      signal: AbortSignal.timeout(TIMEOUT_MS),
      redirect: "manual",
      // The certificate is for the public host name, but this connects to the machine itself.
      tls: { rejectUnauthorized: false },
    });
    return { status: response.status, text: await response.text() };
  };
  try {
    const [about, readiness] = await Promise.all([read("/version"), read("/readyz?verbose")]);
    const { version, commit } = JSON.parse(about.text) as Record<string, unknown>;
    if (typeof version !== "string" || typeof commit !== "string") return null;
    const failed = [...readiness.text.matchAll(/^\[-\](\S+)/gm)].map(([, name = ""]) => name);
    return { version, commit, isReady: readiness.status === 200, failed };
  } catch {
    return null;
  }
}
