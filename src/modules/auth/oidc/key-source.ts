import type { Fetch } from "../../../lib/outgoing/create-fetch.ts";
import { ISSUER_RESPONSE_BYTES_MAX } from "./limits.ts";

export type KeySourceOptions = { issuer: string; jwksUrl: string | undefined; fetch: Fetch };

/** Reads the key set of an issuer. @throws Error that says what is wrong with the response, for the log. */
export type KeySource = (signal: AbortSignal) => Promise<unknown>;

/**
 * Reads the key set of an issuer: from `jwksUrl`, or from the URL in its discovery document (OpenID Connect
 * Discovery 1.0, section 4). The document is read each time, so an issuer may move its keys. Redirects are not followed,
 * and at most ISSUER_RESPONSE_BYTES_MAX bytes are read.
 */
export function createKeySource({ issuer, jwksUrl, fetch }: KeySourceOptions): KeySource {
  const read: ReadJson = (url, signal) => readJson(fetch, url, signal);
  return async (signal) => read(jwksUrl ?? (await discover(read, issuer, signal)), signal);
}

type ReadJson = (url: string, signal: AbortSignal) => Promise<unknown>;

async function discover(read: ReadJson, issuer: string, signal: AbortSignal): Promise<string> {
  const url = `${issuer.replace(/\/$/, "")}/.well-known/openid-configuration`;
  const document = (await read(url, signal)) as Record<string, unknown> | null;
  // Section 4.3: otherwise one issuer could impersonate another.
  if (document?.issuer !== issuer) throw new Error(`${url} is not the discovery document of the issuer ${issuer}`);
  const keysUrl = document.jwks_uri;
  if (typeof keysUrl !== "string" || !URL.canParse(keysUrl)) throw new Error(`${url} has no valid jwks_uri`);
  const { protocol } = new URL(keysUrl);
  if (protocol !== "https:" && protocol !== new URL(issuer).protocol)
    throw new Error(`${url} has a jwks_uri that is less secure than the issuer`);
  return keysUrl;
}

async function readJson(fetch: Fetch, url: string, signal: AbortSignal): Promise<unknown> {
  const response = await fetch(url, { redirect: "manual", headers: { accept: "application/json" }, signal });
  if (response.status !== 200) {
    await response.body?.cancel();
    throw new Error(`${url} responded with status ${response.status}`);
  }
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of response.body ?? []) {
    bytes += chunk.byteLength;
    // Leaving the loop cancels the body.
    if (bytes > ISSUER_RESPONSE_BYTES_MAX)
      throw new Error(`${url} responded with more than ${ISSUER_RESPONSE_BYTES_MAX} bytes`);
    chunks.push(chunk);
  }
  try {
    return JSON.parse(Buffer.concat(chunks).toString());
  } catch {
    throw new Error(`${url} didn't respond with JSON`);
  }
}
