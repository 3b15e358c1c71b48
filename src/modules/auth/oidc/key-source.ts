import type { Fetch } from "../../../lib/outgoing/create-fetch.ts";
import { ISSUER_RESPONSE_BYTES_MAX } from "./limits.ts";

export type KeySourceOptions = { issuer: string; jwksUrl: string | undefined; fetch: Fetch };

/** Fetches an issuer's key set. @throws an Error that describes the problem for the log. */
export type FetchKeySet = (signal: AbortSignal) => Promise<unknown>;

/**
 * Creates a function that fetches an issuer's key set from `jwksUrl`, or from the URL in its discovery document (OpenID Connect
 * Discovery 1.0, section 4). The document is fetched each time, in case the URL changes. Redirects are not followed.
 */
export function createKeySetFetcher({ issuer, jwksUrl, fetch }: KeySourceOptions): FetchKeySet {
  const fetchUrl: FetchJson = (url, signal) => fetchJson(fetch, url, signal);
  return async (signal) => fetchUrl(jwksUrl ?? (await fetchKeysUrl(fetchUrl, issuer, signal)), signal);
}

type FetchJson = (url: string, signal: AbortSignal) => Promise<unknown>;

async function fetchKeysUrl(fetchUrl: FetchJson, issuer: string, signal: AbortSignal): Promise<string> {
  const url = `${issuer.replace(/\/$/, "")}/.well-known/openid-configuration`;
  const document = (await fetchUrl(url, signal)) as Record<string, unknown> | null;
  // This check is required by section 4.3. Without it, one issuer could impersonate another.
  if (document?.issuer !== issuer) throw new Error(`${url} is not the discovery document of the issuer ${issuer}`);
  const keysUrl = document.jwks_uri;
  if (typeof keysUrl !== "string" || !URL.canParse(keysUrl)) throw new Error(`${url} has no valid jwks_uri`);
  const { protocol } = new URL(keysUrl);
  if (protocol !== "https:" && protocol !== new URL(issuer).protocol)
    throw new Error(`${url} has a jwks_uri that is less secure than the issuer`);
  return keysUrl;
}

async function fetchJson(fetch: Fetch, url: string, signal: AbortSignal): Promise<unknown> {
  const response = await fetch(url, { redirect: "manual", headers: { accept: "application/json" }, signal });
  if (response.status !== 200) {
    await response.body?.cancel();
    throw new Error(`${url} responded with status ${response.status}`);
  }
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of response.body ?? []) {
    bytes += chunk.byteLength;
    // Throwing cancels the body.
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
