import { Redis } from "ioredis";
import { abortable } from "../../lib/abortable.ts";
import { explainLoopback } from "../../lib/container.ts";
import { createId } from "../../lib/id.ts";
import { busOptions } from "../../redis/connection-options.ts";
import { createNodeOptions, detectServerKind, parseSeedAddress } from "../../redis/target.ts";
import { type DoctorCheck, type DoctorContext, REQUEST_TIMEOUT_MS } from "./check.ts";
import { compareClocks } from "./clock-reading.ts";
import { type Finding, ok, problem, skipped, warning } from "./finding.ts";

const LATENCY_MS_MAX = 20;
const MESSAGE_TIMEOUT_MS = 1_000;

export const redisCheck: DoctorCheck = {
  name: "redis",
  async run(context) {
    const url = context.config.REDIS_URL;
    if (url === undefined) return [skipped("REDIS_URL is not set; one instance needs no Redis.")];
    const address = parseSeedAddress(url);
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
    const timeoutSignal = AbortSignal.timeout(REQUEST_TIMEOUT_MS);
    try {
      return await abortable(checkRedis(client, subscriber, context), timeoutSignal);
    } catch (error) {
      const reason = errors[0] ?? (error instanceof Error ? error.message : String(error));
      return [problem(explainRedisFailure(address, timeoutSignal.aborted ? "no response" : reason, url))];
    } finally {
      for (const connection of [client, subscriber]) connection.disconnect();
    }
  },
};

/** Explains a Redis error and how to fix it. Redis error messages contain no password. */
export function explainRedisFailure(address: string, reason: string, url: string): string {
  const failure = `Redis at ${address} can't be used (${reason})`;
  if (/NOAUTH|WRONGPASS|invalid (?:username-)?password|AUTH/i.test(reason))
    return `${failure}; correct the user and the password in REDIS_URL.`;
  if (/NOPERM/.test(reason))
    return `${failure}; allow the user in REDIS_URL to run all commands on the keys and channels parley:*.`;
  if (/certificate|self.signed|issuer/i.test(reason))
    return `${failure}; if its CA is private, set NODE_EXTRA_CA_CERTS to a file with that CA's certificate.`;
  if (/LOADING/.test(reason)) return `${failure}; it is loading its data, so try again in a moment.`;
  if (/RESP type/.test(reason))
    return `The server at ${address} is not a Redis server; correct the host and port in REDIS_URL.`;
  const tls = url.startsWith("rediss:") ? "if it has no TLS, write redis://" : "if it requires TLS, write rediss://";
  return `${failure}; check that it is running, the host and port in REDIS_URL, and firewalls; ${tls}.${explainLoopback(address.replace(/:\d+$/, ""))}`;
}

/** @throws if the connection or a command that Parley needs fails. */
async function checkRedis(client: Redis, subscriber: Redis, context: DoctorContext): Promise<Finding[]> {
  await client.connect();
  const startedAtMs = performance.now();
  await client.ping();
  const latencyMs = performance.now() - startedAtMs;
  const { isCluster } = await detectServerKind(client);
  const sentAtMs = Date.now();
  const [seconds, micros] = await client.time();
  const redisTimeMs = Number(seconds) * 1_000 + Number(micros) / 1_000;
  context.clockReadings.push(compareClocks("Redis", redisTimeMs, { sentAtMs, receivedAtMs: Date.now() }));
  // Rate limits use scripts.
  await client.eval("return 1", 0);
  const findings = checkInfo(await client.info().catch(() => ""), latencyMs);
  if (!(await canExchangeMessages(client, subscriber)))
    findings.push(
      problem(
        "Redis did not deliver a published message, so instances would not receive each other's messages; check that REDIS_URL points to one server, not to several behind a load balancer.",
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

/** Finds problems in the output of INFO. @param info empty if the user isn't allowed to run INFO. */
export function checkInfo(info: string, latencyMs: number): Finding[] {
  const findValue = (name: string) => new RegExp(`^${name}:([^\\r\\n]*)`, "m").exec(info)?.[1];
  const findings: Finding[] = [];
  const policy = findValue("maxmemory_policy");
  const maxBytes = Number(findValue("maxmemory") ?? 0);
  const usedBytes = Number(findValue("used_memory") ?? 0);
  if (maxBytes > 0 && policy?.startsWith("allkeys"))
    findings.push(
      warning(
        `Redis may evict any key (maxmemory-policy ${policy}), so rate limits may be lost when its memory is full; set volatile-ttl or noeviction, or give Parley its own Redis.`,
      ),
    );
  if (maxBytes > 0 && usedBytes > 0.95 * maxBytes)
    findings.push(warning("Redis has used more than 95 % of its maxmemory; raise it, or remove other programs' keys."));
  if (findValue("role") === "slave")
    findings.push(problem("REDIS_URL points to a replica, which accepts no writes; set it to the primary."));
  if (latencyMs > LATENCY_MS_MAX)
    findings.push(warning(`Redis takes ${Math.round(latencyMs)} ms to respond; run Parley in the same region.`));
  return findings;
}

/** Returns whether a message published on one connection arrives on the other. */
async function canExchangeMessages(publisher: Redis, subscriber: Redis): Promise<boolean> {
  const channel = `parley:doctor:${createId()}`;
  const { promise, resolve } = Promise.withResolvers<boolean>();
  await subscriber.connect();
  subscriber.on("message", () => resolve(true));
  await subscriber.subscribe(channel);
  await publisher.publish(channel, "1");
  return await Promise.race([promise, Bun.sleep(MESSAGE_TIMEOUT_MS).then(() => false)]);
}
