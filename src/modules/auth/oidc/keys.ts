import { createLocalJWKSet, createRemoteJWKSet, customFetch, errors, type JWTVerifyGetKey } from "jose";
import type { Log } from "../../../lib/log.ts";
import type { FetchKeySet } from "./key-source.ts";
import type { KeyTimes } from "./limits.ts";

/** Thrown if the issuer's keys can't be fetched and the requested key is unknown. */
export class KeysUnavailableError extends Error {}

type KeysDependencies = { issuer: string; fetchKeySet: FetchKeySet; log: Log; times: KeyTimes };

/**
 * Creates a cache of an issuer's public keys. Cached keys are refreshed in the background. An unknown key triggers a fetch, but only once
 * per cooldown, no matter how many tokens refer to unknown keys. While the issuer is unreachable, fetches are retried once per `retryMs`.
 * The returned function throws KeysUnavailableError, or jose's errors.
 */
export function createIssuerKeyCache({ issuer, fetchKeySet, log, times }: KeysDependencies): JWTVerifyGetKey {
  let fetchedAtMs = Number.NEGATIVE_INFINITY;
  let failedAtMs = Number.NEGATIVE_INFINITY;
  let unknownKeyFetchAtMs = Number.NEGATIVE_INFINITY;
  const isBackingOff = () => performance.now() - failedAtMs < times.retryMs;

  async function fetchKeys(_url: string, { signal }: { signal: AbortSignal }): Promise<Response> {
    if (isBackingOff()) throw new KeysUnavailableError();
    try {
      const keys = await fetchKeySet(signal);
      // Throws if the key set is invalid. This must count as a failed fetch. Otherwise, every token would trigger a fetch.
      createLocalJWKSet(keys as Parameters<typeof createLocalJWKSet>[0]);
      fetchedAtMs = performance.now();
      return Response.json(keys);
    } catch (err) {
      failedAtMs = performance.now();
      log.warn({ err, issuer }, "fetching the issuer's keys failed");
      throw new KeysUnavailableError();
    }
  }

  const keys = createRemoteJWKSet(new URL(issuer), {
    [customFetch]: fetchKeys,
    cacheMaxAge: times.retentionMs,
    // jose's own cooldown starts at each fetch, so tokens with a key that was added right after a fetch would be rejected.
    cooldownDuration: Number.POSITIVE_INFINITY,
    timeoutDuration: times.timeoutMs,
  });

  /** Returns whether to fetch the key set because of an unknown key. Concurrent callers share the fetch. */
  function shouldFetchUnknownKey(): boolean {
    if (keys.reloading) return true;
    if (performance.now() - unknownKeyFetchAtMs < times.cooldownMs) return false;
    unknownKeyFetchAtMs = performance.now();
    return true;
  }

  return async (header, token) => {
    const isRefreshDue = performance.now() - fetchedAtMs > times.refreshMs;
    if (isRefreshDue && keys.fresh && !keys.reloading && !isBackingOff()) keys.reload().catch(() => {});
    try {
      return await keys(header, token);
    } catch (error) {
      if (!(error instanceof errors.JWKSNoMatchingKey) || !shouldFetchUnknownKey()) throw error;
      await keys.reload();
      return keys(header, token);
    }
  };
}
