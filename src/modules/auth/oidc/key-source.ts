import type { Fetch } from "../../../lib/outgoing/create-fetch.ts";
import { ISSUER_ANSWER_BYTES_MAX } from "./limits.ts";

export type KeySourceOptions = { issuer: string; jwksUrl: string | undefined; fetch: Fetch };

/** Reads the key set of an issuer. @throws Error that says what is wrong with the response, for the log. */
export type KeySource = (signal: AbortSignal) => Promise<unknown>;

/**
 * Reads the key set of an issuer: from `jwksUrl`, or from the address in its discovery document (OpenID Connect
 * Discovery 1.0, section 4). The document is read each time, so an issuer may move its keys. Redirects are not followed,
 * and at most ISSUER_ANSWER_BYTES_MAX bytes are read.
 */
export function createKeySource({ issuer, jwksUrl, fetch }: KeySourceOptions): KeySource {
  const read: ReadJson = (address, signal) => readJson(fetch, address, signal);
  return async (signal) => read(jwksUrl ?? (await discover(read, issuer, signal)), signal);
}

type ReadJson = (address: string, signal: AbortSignal) => Promise<unknown>;

async function discover(read: ReadJson, issuer: string, signal: AbortSignal): Promise<string> {
  const address = `${issuer.replace(/\/$/, "")}/.well-known/openid-configuration`;
  const document = (await read(address, signal)) as Record<string, unknown> | null;
  // Section 4.3: otherwise one issuer could impersonate another.
  if (document?.issuer !== issuer) throw new Error(`${address} is not the discovery document of the issuer ${issuer}`);
  const keys = document.jwks_uri;
  if (typeof keys !== "string" || !URL.canParse(keys)) throw new Error(`${address} names no jwks_uri`);
  const { protocol } = new URL(keys);
  if (protocol !== "https:" && protocol !== new URL(issuer).protocol)
    throw new Error(`${address} has a jwks_uri that is less secure than the issuer`);
  return keys;
}

async function readJson(fetch: Fetch, address: string, signal: AbortSignal): Promise<unknown> {
  const response = await fetch(address, { redirect: "manual", headers: { accept: "application/json" }, signal });
  if (response.status !== 200) {
    await response.body?.cancel();
    throw new Error(`${address} answered ${response.status}`);
  }
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of response.body ?? []) {
    bytes += chunk.byteLength;
    // Leaving the loop cancels the body.
    if (bytes > ISSUER_ANSWER_BYTES_MAX)
      throw new Error(`${address} responded with more than ${ISSUER_ANSWER_BYTES_MAX} bytes`);
    chunks.push(chunk);
  }
  try {
    return JSON.parse(Buffer.concat(chunks).toString());
  } catch {
    throw new Error(`${address} didn't respond with JSON`);
  }
}
