import { Redis } from "ioredis";
import { abortable } from "../../lib/abortable.ts";
import { explainLoopback } from "../../lib/container.ts";
import { createId } from "../../lib/id.ts";
import { busOptions } from "../../redis/connection-options.ts";
import { createNodeOptions, findSeed, findServerKind } from "../../redis/target.ts";
import { type DoctorCheck, type DoctorContext, REQUEST_TIMEOUT_MS } from "./check.ts";
import { compareClocks } from "./clock-reading.ts";
import { type Finding, ok, problem, skipped, warning } from "./finding.ts";

const LATENCY_MS_MAX = 20;
const MESSAGE_TIMEOUT_MS = 1_000;

export const redisCheck: DoctorCheck = {
  name: "redis",
  async find(context) {
    const url = context.config.REDIS_URL;
    if (url === undefined) return [skipped("REDIS_URL is not set; one instance needs no Redis.")];
    const address = findSeed(url);
    const errors: string[] = [];
    const connect = () => {
      const client = new Redis({
        ...busOptions,
        ...createNodeOptions(url, address),
        lazyConnect: true,
        retryStrategy: () => null,
      });
      client.on("error", (error: Error) => errors.push(error.message));
      return client;
    };
    const [client, subscriber] = [connect(), connect()];
    const limit = AbortSignal.timeout(REQUEST_TIMEOUT_MS);
    try {
      return await abortable(examine(client, subscriber, context), limit);
    } catch (error) {
      const reason = errors[0] ?? (error instanceof Error ? error.message : String(error));
      return [problem(explainRedisFailure(address, limit.aborted ? "no response" : reason, url))];
    } finally {
      for (const each of [client, subscriber]) each.disconnect();
    }
  },
};

/** Says what to do about an error of Redis. Its messages contain no password. */
export function explainRedisFailure(address: string, reason: string, url: string): string {
  const found = `Redis at ${address} can't be used (${reason})`;
  if (/NOAUTH|WRONGPASS|invalid (?:username-)?password|AUTH/i.test(reason))
    return `${found}; correct the user and the password in REDIS_URL.`;
  if (/NOPERM/.test(reason))
    return `${found}; allow the user of REDIS_URL all commands on the keys and channels parley:*.`;
  if (/certificate|self.signed|issuer/i.test(reason))
    return `${found}; if its CA is private, set NODE_EXTRA_CA_CERTS to a file with that CA's certificate.`;
  if (/LOADING/.test(reason)) return `${found}; it is loading its data, so try again in a moment.`;
  if (/RESP type/.test(reason))
    return `What responds at ${address} is not a Redis server; correct host and port of REDIS_URL.`;
  const tls = url.startsWith("rediss:") ? "if it has no TLS, write redis://" : "if it requires TLS, write rediss://";
  return `${found}; check that it is running, host and port of REDIS_URL, and firewalls; ${tls}.${explainLoopback(address.replace(/:\d+$/, ""))}`;
}

/** @throws an error of the connection, or of a command that Parley needs. */
async function examine(client: Redis, subscriber: Redis, context: DoctorContext): Promise<Finding[]> {
  await client.connect();
  const startedAtMs = performance.now();
  await client.ping();
  const latencyMs = performance.now() - startedAtMs;
  const { isCluster } = await findServerKind(client);
  const sentAtMs = Date.now();
  const [seconds, micros] = await client.time();
  const theirMs = Number(seconds) * 1_000 + Number(micros) / 1_000;
  context.clockReadings.push(compareClocks("Redis", theirMs, { sentAtMs, receivedAtMs: Date.now() }));
  // Limits are scripts.
  await client.eval("return 1", 0);
  const findings = judgeInfo(await client.info().catch(() => ""), latencyMs);
  if (!(await passesMessages(client, subscriber)))
    findings.push(
      problem(
        "Redis did not deliver a published message, so instances would not receive each other's messages; check that REDIS_URL names one server and not several behind a load balancer.",
      ),
    );
  const version = await readVersion(client);
  if (!findings.some(({ status }) => status === "problem"))
    findings.unshift(ok(`${version}${isCluster ? " (cluster)" : ""} responds in ${latencyMs.toFixed(1)} ms.`));
  return findings;
}

async function readVersion(client: Redis): Promise<string> {
  const info = await client.info("server").catch(() => "");
  const valkey = /^valkey_version:(\S+)/m.exec(info)?.[1];
  if (valkey) return `Valkey ${valkey}`;
  return `Redis ${/^redis_version:(\S+)/m.exec(info)?.[1] ?? "(unknown version)"}`;
}

/** What the output of INFO says; empty if the user may not run it. */
export function judgeInfo(info: string, latencyMs: number): Finding[] {
  const find = (name: string) => new RegExp(`^${name}:([^\\r\\n]*)`, "m").exec(info)?.[1];
  const findings: Finding[] = [];
  const policy = find("maxmemory_policy");
  const maxBytes = Number(find("maxmemory") ?? 0);
  const usedBytes = Number(find("used_memory") ?? 0);
  if (maxBytes > 0 && policy?.startsWith("allkeys"))
    findings.push(
      warning(
        `Redis may evict any key (maxmemory-policy ${policy}), so rate limits may be forgotten when its memory is full; set volatile-ttl or noeviction, or give Parley its own Redis.`,
      ),
    );
  if (maxBytes > 0 && usedBytes > 0.95 * maxBytes)
    findings.push(warning("Redis has used more than 95 % of its maxmemory; raise it, or remove other programs' keys."));
  if (find("role") === "slave")
    findings.push(problem("REDIS_URL names a replica, which accepts no writes; set it to the primary."));
  if (latencyMs > LATENCY_MS_MAX)
    findings.push(warning(`Redis takes ${Math.round(latencyMs)} ms to respond; run it in the same region as Parley.`));
  return findings;
}

/** Whether a message arrives from one connection at another. Nobody else uses the channel. */
async function passesMessages(publisher: Redis, subscriber: Redis): Promise<boolean> {
  const channel = `parley:doctor:${createId()}`;
  const { promise, resolve } = Promise.withResolvers<boolean>();
  await subscriber.connect();
  subscriber.on("message", () => resolve(true));
  await subscriber.subscribe(channel);
  await publisher.publish(channel, "1");
  return await Promise.race([promise, Bun.sleep(MESSAGE_TIMEOUT_MS).then(() => false)]);
}
