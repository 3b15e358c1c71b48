import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createId } from "../../src/lib/id.ts";
import { createLimiter } from "../../src/limits/limiter.ts";
import { createLoginGuard } from "../../src/limits/login-guard.ts";
import { createRedisBus } from "../../src/realtime/bus-redis.ts";
import { SlotMap, slotOf } from "../../src/redis/cluster/slots.ts";
import { connectRedis, type RedisLink } from "../../src/redis/link.ts";
import { connectPubSub } from "../../src/redis/pub-sub.ts";
import type { PubSub } from "../../src/redis/pub-sub-port.ts";
import { createNodeOptions, findSeed } from "../../src/redis/target.ts";
import { silentLog } from "../support/log.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { startRedisCluster, type TestCluster } from "../support/redis-cluster.ts";
import { waitUntil } from "../support/wait-until.ts";

const PASSWORD = "p@ss/word";

describe("Redis Cluster", () => {
  let cluster: TestCluster;
  const open: { close(): Promise<void> }[] = [];
  beforeAll(async () => {
    // The first master has a replica, which is promoted.
    cluster = await startRedisCluster(3, 1, { requirepass: PASSWORD, masterauth: PASSWORD });
    for (const client of cluster.clients)
      await client.call("ACL", "SETUSER", "parley", "on", `>${PASSWORD}`, "~parley:*", "&parley:*", "-@all",
        "+@connection", "+info", "+cluster|slots", "+cluster|info", "+publish", "+subscribe", "+unsubscribe", "+spublish", "+ssubscribe",
        "+sunsubscribe", "+@read", "+@write", "+@scripting", "+@transaction"); // biome-ignore format: one list
  });
  afterAll(async () => {
    await Promise.all(open.map((part) => part.close()));
    await cluster.stop();
  });

  /** With a user who has only Parley's permissions, and a database number, which a cluster doesn't support. */
  const url = () => `${cluster.url.replace("redis://", `redis://parley:${encodeURIComponent(PASSWORD)}@`)}/3`;

  function openPubSub() {
    const received: string[] = [];
    const subscribed: string[] = [];
    const isSharded = (channel: string) => !channel.endsWith(":all");
    const listener = {
      onMessage: (channel: string, text: string) => void received.push(`${channel} ${text}`),
      onSubscribed: (channel: string) => void subscribed.push(channel),
      onError() {},
    };
    const pubSub = connectPubSub({ url: url(), isSharded }, listener);
    open.push(pubSub);
    return { pubSub, received, subscribed };
  }

  const publish = (pubSub: PubSub, channel: string, text: string) =>
    pubSub.publish([{ channel, text }]).catch(() => {});
  const channelOfSlot = (isWanted: (slot: number) => boolean): string => {
    for (;;) {
      const channel = `parley:test:${createId()}`;
      if (isWanted(slotOf(channel))) return channel;
    }
  };
  async function openAlive(deployment = "one"): Promise<RedisLink> {
    const link = connectRedis(url(), deployment, silentLog);
    open.push(link);
    await waitUntil(link.isAlive);
    return link;
  }

  test("maps channels to slots as Redis does", async () => {
    for (const channel of [
      "a",
      "parley:0123456789abcdef:beats",
      "é語😀",
      ...Array.from({ length: 200 }, () => createId()),
    ])
      expect<unknown>([channel, slotOf(channel)]).toEqual([
        channel,
        await cluster.clients[0]?.call("CLUSTER", "KEYSLOT", channel),
      ]);
  });

  test("handles nodes that don't know their own name, and IPv6 addresses", () => {
    const slots = new SlotMap(
      [
        [0, 8_000, ["", 7_000, "id"]],
        [8_001, 16_383, ["::1", 7_001, "id"]],
      ],
      "redis.example",
    );
    expect(slots.masters).toEqual(new Set(["redis.example:7000", "::1:7001"]));
  });

  test("uses user, password and TLS of REDIS_URL for every node, and drops the database number", () => {
    expect(createNodeOptions("rediss://user:p%2Fw@redis.example/3", "192.0.2.1:7000")).toEqual({
      host: "192.0.2.1",
      port: 7_000,
      username: "user",
      password: "p/w",
      tls: { servername: "redis.example" },
    });
    expect(createNodeOptions("redis://:100%@[::1]", findSeed("redis://:100%@[::1]"))).toEqual({
      host: "::1",
      port: 6_379,
      password: "100%",
    });
    expect(() => findSeed("redis://:secret/@host:port")).toThrow("REDIS_URL is not a URL");
  });

  test("publishes a conversation's messages on one node only, and those for all on every node", async () => {
    const { pubSub } = openPubSub();
    const channels = Array.from({ length: 40 }, () => `parley:test:${createId()}`);
    for (const channel of [...channels, "parley:test:all"]) pubSub.subscribe(channel);
    await waitUntil(pubSub.isConnected);
    const countAt = async (what: string) =>
      (await Promise.all(cluster.clients.map((client) => client.call("PUBSUB", what)))).map(
        (list) => (list as string[]).length,
      );
    await waitUntil(
      async () => (await countAt("SHARDCHANNELS")).reduce((sum, count) => sum + count) === channels.length,
    );
    expect((await countAt("SHARDCHANNELS")).filter((count) => count > 0)).toHaveLength(3);
    expect((await countAt("CHANNELS")).filter((count) => count > 0)).toHaveLength(1);
    await pubSub.close();
  });

  test("follows a slot to another node, and reports a possible gap", async () => {
    const { pubSub, received, subscribed } = openPubSub();
    const other = openPubSub().pubSub;
    const channel = channelOfSlot((slot) => slot > 11_000);
    pubSub.subscribe(channel);
    pubSub.subscribe("parley:test:all");
    await waitUntil(() => pubSub.isConnected() && other.isConnected() && subscribed.length === 2);
    subscribed.length = 0;
    const slot = slotOf(channel);
    const target = String(await cluster.clients[1]?.call("CLUSTER", "MYID"));
    for (const node of [1, 2]) await cluster.clients[node]?.call("CLUSTER", "SETSLOT", slot, "NODE", target);
    await waitUntil(() => subscribed.includes(channel));
    await waitUntil(async () => {
      await publish(other, channel, "after it");
      return received.includes(`${channel} after it`);
    });
    // Other channels were not affected.
    expect(new Set(subscribed)).toEqual(new Set([channel]));
  });

  test("counts limits and failed logins across all instances", async () => {
    const [a, b] = [await openAlive(), await openAlive()];
    const name = createId();
    const [one, two] = [a, b].map((redis) => createLimiter({ name, rate: { burst: 3, sustained: 100 }, redis }));
    for (let n = 0; n < 20; n += 1) {
      const verdicts = [
        await one?.consume(`k${n}`),
        await two?.consume(`k${n}`),
        await one?.consume(`k${n}`),
        await two?.consume(`k${n}`),
      ];
      expect(verdicts.map((verdict) => verdict?.isAllowed)).toEqual([true, true, true, false]);
    }
    // Another Parley on this Redis has separate limits.
    const other = createLimiter({ name, rate: { burst: 3, sustained: 100 }, redis: await openAlive("two") });
    expect((await other.consume("k0")).isAllowed).toBe(true);
    const failures = { account_and_address: 2, account: 100, address: 100 };
    const [guardA, guardB] = [a, b].map((redis) => createLoginGuard({ failures, redis, onRefused() {} }));
    await (await guardA?.begin("somebody", "192.0.2.1"))?.fail();
    await (await guardB?.begin("somebody", "192.0.2.1"))?.fail();
    await expect(guardA?.begin("somebody", "192.0.2.1")).rejects.toThrow("Too many logins");
  });

  test("keeps two installations separate, and ignores foreign data", async () => {
    const { database } = await createTestDatabase(2);
    const bus = (deployment: string) => {
      const created = createRedisBus({ url: url(), deployment, instanceId: createId(), log: silentLog, sql: database });
      open.push(created);
      return created;
    };
    const [a, b, stranger] = [bus("one"), bus("one"), bus("two")];
    await waitUntil(() => [a, b, stranger].every((each) => each.isHealthy()) && a.listPeers().length === 1);
    const id = createId();
    const received: unknown[] = [];
    for (const each of [b, stranger])
      each.subscribe(id, { onMessage: (message) => void received.push(message), onGap() {} });
    const message = { type: "typing", conversation_id: id, user_id: id, active: true, expires_in_ms: 6_000 } as const;
    const garbage = ["", "null", "[]", "{", '["x",1,0,{"type":7}]', '["x",1e999,0]', "\u0000", "[".repeat(50_000)];
    for (const text of garbage) {
      await cluster.clients[1]?.publish("parley:one:beats", text);
      for (const client of cluster.clients) await client.call("SPUBLISH", `parley:one:${id}`, text).catch(() => {});
    }
    await waitUntil(() => {
      a.publish(id, () => [message]);
      return received.length > 0;
    });
    expect(received[0]).toEqual(message);
    expect(stranger.listPeers()).toEqual([]);
    await database.end({ timeout: 1 });
  });

  test("recovers after kill -9 of a master: at once for channels of all, and for its slots once the replica has them", async () => {
    const link = await openAlive();
    const { pubSub, received, subscribed } = openPubSub();
    const other = openPubSub().pubSub;
    const [lost, kept] = [
      channelOfSlot((slot) => slot < 5_000),
      channelOfSlot((slot) => slot > 6_000 && slot < 10_000),
    ];
    for (const channel of [lost, kept, "parley:test:all"]) pubSub.subscribe(channel);
    await waitUntil(() => pubSub.isConnected() && other.isConnected() && subscribed.length === 3);
    await cluster.untilReplicated();
    const [first] = cluster.nodes;
    await first?.server.kill();
    first?.relay.reset();
    const isReceived = (channel: string) => async () => {
      await publish(other, channel, "after it");
      return received.includes(`${channel} after it`);
    };
    await waitUntil(isReceived(kept));
    await waitUntil(isReceived("parley:test:all"));
    await waitUntil(isReceived(lost));
    await waitUntil(() => pubSub.isConnected() && link.isAlive());
    const limiter = createLimiter({ name: createId(), rate: { burst: 1, sustained: 100 }, redis: link });
    for (let n = 0; n < 20; n += 1) expect((await limiter.consume(`k${n}`)).isAllowed).toBe(true);
    expect((await limiter.consume("k0")).isAllowed).toBe(false);
    expect(subscribed.filter((channel) => channel === lost).length).toBeGreaterThan(1);
  });
});
