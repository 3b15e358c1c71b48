import { createLocalJWKSet, createRemoteJWKSet, customFetch, errors, type JWTVerifyGetKey } from "jose";
import type { Log } from "../../../lib/log.ts";
import type { KeySource } from "./key-source.ts";
import type { KeyTimes } from "./limits.ts";

/** The issuer's keys can't be fetched, and the requested one is unknown. */
export class KeysUnavailable extends Error {}

type KeysDependencies = { issuer: string; source: KeySource; log: Log; times: KeyTimes };

/**
 * The public keys of an issuer, cached. Cached keys are refreshed in the background. An unknown key triggers a fetch,
 * but only once per cooldown, no matter how many tokens refer to unknown keys. While the issuer is unreachable, it is retried once per
 * `retryMs`. Throws KeysUnavailable, or an error of jose.
 */
export function createIssuerKeys({ issuer, source, log, times }: KeysDependencies): JWTVerifyGetKey {
  let fetchedAtMs = Number.NEGATIVE_INFINITY;
  let failedAtMs = Number.NEGATIVE_INFINITY;
  let unknownKeyFetchAtMs = Number.NEGATIVE_INFINITY;
  const isBackingOff = () => performance.now() - failedAtMs < times.retryMs;

  async function fetchKeys(_url: string, { signal }: { signal: AbortSignal }): Promise<Response> {
    if (isBackingOff()) throw new KeysUnavailable();
    try {
      const keys = await source(signal);
      // An invalid key set must count as a failure here, or every token would trigger a fetch.
      createLocalJWKSet(keys as Parameters<typeof createLocalJWKSet>[0]);
      fetchedAtMs = performance.now();
      return Response.json(keys);
    } catch (err) {
      failedAtMs = performance.now();
      log.warn({ err, issuer }, "fetching the issuer's keys failed");
      throw new KeysUnavailable();
    }
  }

  const keys = createRemoteJWKSet(new URL(issuer), {
    [customFetch]: fetchKeys,
    cacheMaxAge: times.retentionMs,
    // jose's own cooldown starts at every fetch, so a key added right after a fetch would be refused.
    cooldownDuration: Number.POSITIVE_INFINITY,
    timeoutDuration: times.timeoutMs,
  });

  /** Whether to fetch the key set because of an unknown key. Concurrent callers share the fetch. */
  function mayFetchUnknownKey(): boolean {
    if (keys.reloading) return true;
    if (performance.now() - unknownKeyFetchAtMs < times.cooldownMs) return false;
    unknownKeyFetchAtMs = performance.now();
    return true;
  }

  return async (header, token) => {
    const isOld = performance.now() - fetchedAtMs > times.refreshMs;
    if (isOld && keys.fresh && !keys.reloading && !isBackingOff()) keys.reload().catch(() => {});
    try {
      return await keys(header, token);
    } catch (error) {
      if (!(error instanceof errors.JWKSNoMatchingKey) || !mayFetchUnknownKey()) throw error;
      await keys.reload();
      return keys(header, token);
    }
  };
}
