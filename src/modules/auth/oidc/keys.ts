import { createLocalJWKSet, createRemoteJWKSet, customFetch, errors, type JWTVerifyGetKey } from "jose";
import type { Log } from "../../../lib/log.ts";
import type { KeySource } from "./key-source.ts";
import type { KeyTimes } from "./limits.ts";

/** The keys of the issuer cannot be fetched, and the one that is asked for is not known. */
export class KeysUnavailable extends Error {}

type KeysDependencies = { issuer: string; source: KeySource; log: Log; times: KeyTimes };

/**
 * The public keys of an issuer. Known keys work without it; they are renewed beside the requests. A key that is not known
 * is looked for at once, but only once per cooldown, however many tokens name one. While the issuer is away it is asked
 * once per `retryMs`. What it gives throws KeysUnavailable, or an error of jose.
 */
export function createIssuerKeys({ issuer, source, log, times }: KeysDependencies): JWTVerifyGetKey {
  let fetchedAtMs = Number.NEGATIVE_INFINITY;
  let failedAtMs = Number.NEGATIVE_INFINITY;
  let soughtAtMs = Number.NEGATIVE_INFINITY;
  const isResting = () => performance.now() - failedAtMs < times.retryMs;

  async function fetchKeys(_url: string, { signal }: { signal: AbortSignal }): Promise<Response> {
    if (isResting()) throw new KeysUnavailable();
    try {
      const keys = await source(signal);
      // What is no key set must count as a failure here, or it would be fetched again for every token.
      createLocalJWKSet(keys as Parameters<typeof createLocalJWKSet>[0]);
      fetchedAtMs = performance.now();
      return Response.json(keys);
    } catch (err) {
      failedAtMs = performance.now();
      log.warn({ err, issuer }, "the keys of the issuer cannot be fetched");
      throw new KeysUnavailable();
    }
  }

  const keys = createRemoteJWKSet(new URL(issuer), {
    [customFetch]: fetchKeys,
    cacheMaxAge: times.keptMs,
    // Its own cooldown counts from any fetch: a key that is new right after one would be refused.
    cooldownDuration: Number.POSITIVE_INFINITY,
    timeoutDuration: times.timeoutMs,
  });

  /** Whether the key set is fetched for the sake of an unknown key. Those who come meanwhile wait for the same fetch. */
  function maySeek(): boolean {
    if (keys.reloading) return true;
    if (performance.now() - soughtAtMs < times.cooldownMs) return false;
    soughtAtMs = performance.now();
    return true;
  }

  return async (header, token) => {
    const isOld = performance.now() - fetchedAtMs > times.refreshMs;
    if (isOld && keys.fresh && !keys.reloading && !isResting()) keys.reload().catch(() => {});
    try {
      return await keys(header, token);
    } catch (error) {
      if (!(error instanceof errors.JWKSNoMatchingKey) || !maySeek()) throw error;
      await keys.reload();
      return keys(header, token);
    }
  };
}
