import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createId } from "../../src/lib/id.ts";
import { createLimiter } from "../../src/limits/limiter.ts";
import { createLoginGuard } from "../../src/limits/login-guard.ts";
import { createRedisBus } from "../../src/realtime/bus-redis.ts";
import { computeSlot, SlotMap } from "../../src/redis/cluster/slots.ts";
import { connectRedis, type RedisLink } from "../../src/redis/link.ts";
import { connectPubSub } from "../../src/redis/pub-sub.ts";
import type { PubSub } from "../../src/redis/pub-sub-port.ts";
import { createNodeOptions, parseSeedAddress } from "../../src/redis/target.ts";
import { silentLog } from "../support/log.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { startRedisCluster, type TestCluster } from "../support/redis-cluster.ts";
import { waitUntil } from "../support/wait-until.ts";

const PASSWORD = "p@ss/word";

describe("the Redis Cluster client", () => {
  let cluster: TestCluster;
  const openResources: { close(): Promise<void> }[] = [];
  beforeAll(async () => {
    // The first master has a replica, which is promoted in the last test.
    cluster = await startRedisCluster(3, 1, { requirepass: PASSWORD, masterauth: PASSWORD });
    for (const client of cluster.clients)
      await client.call("ACL", "SETUSER", "parley", "on", `>${PASSWORD}`, "~parley:*", "&parley:*", "-@all",
        "+@connection", "+info", "+cluster|slots", "+cluster|info", "+publish", "+subscribe", "+unsubscribe", "+spublish", "+ssubscribe",
        "+sunsubscribe", "+@read", "+@write", "+@scripting", "+@transaction"); // biome-ignore format: one list
  });
  afterAll(async () => {
    await Promise.all(openResources.map((resource) => resource.close()));
    await cluster.stop();
  });

  /** Returns a URL with a user that has only the permissions that Parley needs, and a database number, which Parley must ignore. */
  const createUrl = () => `${cluster.url.replace("redis://", `redis://parley:${encodeURIComponent(PASSWORD)}@`)}/3`;

  function openPubSub() {
    const receivedMessages: string[] = [];
    const subscribedChannels: string[] = [];
    const isSharded = (channel: string) => !channel.endsWith(":all");
    const listener = {
      onMessage: (channel: string, text: string) => void receivedMessages.push(`${channel} ${text}`),
      onSubscribed: (channel: string) => void subscribedChannels.push(channel),
      onError() {},
    };
    const pubSub = connectPubSub({ url: createUrl(), isSharded }, listener);
    openResources.push(pubSub);
    return { pubSub, receivedMessages, subscribedChannels };
  }

  const publish = (pubSub: PubSub, channel: string, text: string) =>
    pubSub.publish([{ channel, text }]).catch(() => {});
  const findChannel = (matchesSlot: (slot: number) => boolean): string => {
    for (;;) {
      const channel = `parley:test:${createId()}`;
      if (matchesSlot(computeSlot(channel))) return channel;
    }
  };
  async function openLink(deployment = "one"): Promise<RedisLink> {
    const link = connectRedis(createUrl(), deployment, silentLog);
    openResources.push(link);
    await waitUntil(link.isAvailable);
    return link;
  }

  test("maps channels to slots as Redis does", async () => {
    for (const channel of [
      "a",
      "parley:0123456789abcdef:beats",
      "é語😀",
      ...Array.from({ length: 200 }, () => createId()),
    ])
      expect<unknown>([channel, computeSlot(channel)]).toEqual([
        channel,
        await cluster.clients[0]?.call("CLUSTER", "KEYSLOT", channel),
      ]);
  });

  test("accepts nodes that don't know their own name, and IPv6 addresses", () => {
    const slots = new SlotMap(
      [
        [0, 8_000, ["", 7_000, "id"]],
        [8_001, 16_383, ["::1", 7_001, "id"]],
      ],
      "redis.example",
    );
    expect(slots.masters).toEqual(new Set(["redis.example:7000", "::1:7001"]));
  });

  test("uses the user, password and TLS from REDIS_URL for every node, but not the database number", () => {
    expect(createNodeOptions("rediss://user:p%2Fw@redis.example/3", "192.0.2.1:7000")).toEqual({
      host: "192.0.2.1",
      port: 7_000,
      username: "user",
      password: "p/w",
      tls: { servername: "redis.example" },
    });
    expect(createNodeOptions("redis://:100%@[::1]", parseSeedAddress("redis://:100%@[::1]"))).toEqual({
      host: "::1",
      port: 6_379,
      password: "100%",
    });
    expect(() => parseSeedAddress("redis://:secret/@host:port")).toThrow("REDIS_URL is not a URL");
  });

  test("subscribes to each conversation's channel on the node of its slot, and to global channels on one node", async () => {
    const { pubSub } = openPubSub();
    const channels = Array.from({ length: 40 }, () => `parley:test:${createId()}`);
    for (const channel of [...channels, "parley:test:all"]) pubSub.subscribe(channel);
    await waitUntil(pubSub.isConnected);
    const countChannels = async (subcommand: string) =>
      (await Promise.all(cluster.clients.map((client) => client.call("PUBSUB", subcommand)))).map(
        (list) => (list as string[]).length,
      );
    await waitUntil(
      async () => (await countChannels("SHARDCHANNELS")).reduce((sum, count) => sum + count) === channels.length,
    );
    expect((await countChannels("SHARDCHANNELS")).filter((count) => count > 0)).toHaveLength(3);
    expect((await countChannels("CHANNELS")).filter((count) => count > 0)).toHaveLength(1);
    await pubSub.close();
  });

  test("follows a slot that moves to another node, and reports a possible gap", async () => {
    const { pubSub, receivedMessages, subscribedChannels } = openPubSub();
    const otherPubSub = openPubSub().pubSub;
    const channel = findChannel((slot) => slot > 11_000);
    pubSub.subscribe(channel);
    pubSub.subscribe("parley:test:all");
    await waitUntil(() => pubSub.isConnected() && otherPubSub.isConnected() && subscribedChannels.length === 2);
    subscribedChannels.length = 0;
    const slot = computeSlot(channel);
    const targetNodeId = String(await cluster.clients[1]?.call("CLUSTER", "MYID"));
    for (const node of [1, 2]) await cluster.clients[node]?.call("CLUSTER", "SETSLOT", slot, "NODE", targetNodeId);
    await waitUntil(() => subscribedChannels.includes(channel));
    await waitUntil(async () => {
      await publish(otherPubSub, channel, "after it");
      return receivedMessages.includes(`${channel} after it`);
    });
    // Other channels were not affected.
    expect(new Set(subscribedChannels)).toEqual(new Set([channel]));
  });

  test("counts limits and failed logins across instances", async () => {
    const links = [await openLink(), await openLink()];
    const name = createId();
    const [firstLimiter, secondLimiter] = links.map((redis) =>
      createLimiter({ name, rate: { burst: 3, sustained: 100 }, redis }),
    );
    for (let n = 0; n < 20; n += 1) {
      const results = [
        await firstLimiter?.consume(`k${n}`),
        await secondLimiter?.consume(`k${n}`),
        await firstLimiter?.consume(`k${n}`),
        await secondLimiter?.consume(`k${n}`),
      ];
      expect(results.map((result) => result?.isAllowed)).toEqual([true, true, true, false]);
    }
    // Another deployment has separate limits.
    const otherLimiter = createLimiter({ name, rate: { burst: 3, sustained: 100 }, redis: await openLink("two") });
    expect((await otherLimiter.consume("k0")).isAllowed).toBe(true);
    const failures = { account_and_address: 2, account: 100, address: 100 };
    const [firstGuard, secondGuard] = links.map((redis) => createLoginGuard({ failures, redis, onRejected() {} }));
    await (await firstGuard?.startAttempt("somebody", "192.0.2.1"))?.fail();
    await (await secondGuard?.startAttempt("somebody", "192.0.2.1"))?.fail();
    await expect(firstGuard?.startAttempt("somebody", "192.0.2.1")).rejects.toThrow("Too many logins");
  });

  test("keeps two deployments separate, and ignores invalid data", async () => {
    const { database } = await createTestDatabase(2);
    const openBus = (deployment: string) => {
      const bus = createRedisBus({
        url: createUrl(),
        deployment,
        instanceId: createId(),
        log: silentLog,
        sql: database,
      });
      openResources.push(bus);
      return bus;
    };
    const [firstBus, secondBus, otherDeployment] = [openBus("one"), openBus("one"), openBus("two")];
    await waitUntil(
      () =>
        [firstBus, secondBus, otherDeployment].every((bus) => bus.isHealthy()) &&
        firstBus.listOtherInstances().length === 1,
    );
    const id = createId();
    const receivedMessages: unknown[] = [];
    for (const bus of [secondBus, otherDeployment])
      bus.subscribe(id, { onMessage: (message) => void receivedMessages.push(message), onGap() {} });
    const message = { type: "typing", conversation_id: id, user_id: id, active: true, expires_in_ms: 6_000 } as const;
    const invalidPayloads = [
      "",
      "null",
      "[]",
      "{",
      '["x",1,0,{"type":7}]',
      '["x",1e999,0]',
      "\u0000",
      "[".repeat(50_000),
    ];
    for (const text of invalidPayloads) {
      await cluster.clients[1]?.publish("parley:one:beats", text);
      for (const client of cluster.clients) await client.call("SPUBLISH", `parley:one:${id}`, text).catch(() => {});
    }
    await waitUntil(() => {
      firstBus.publish(id, () => [message]);
      return receivedMessages.length > 0;
    });
    expect(receivedMessages[0]).toEqual(message);
    expect(otherDeployment.listOtherInstances()).toEqual([]);
    await database.end({ timeout: 1 });
  });

  test("recovers from a killed master as soon as its replica takes over its slots", async () => {
    const link = await openLink();
    const { pubSub, receivedMessages, subscribedChannels } = openPubSub();
    const otherPubSub = openPubSub().pubSub;
    const [lostChannel, otherChannel] = [
      findChannel((slot) => slot < 5_000),
      findChannel((slot) => slot > 6_000 && slot < 10_000),
    ];
    for (const channel of [lostChannel, otherChannel, "parley:test:all"]) pubSub.subscribe(channel);
    await waitUntil(() => pubSub.isConnected() && otherPubSub.isConnected() && subscribedChannels.length === 3);
    await cluster.waitForReplication();
    const [killedNode] = cluster.nodes;
    await killedNode?.server.kill();
    killedNode?.relay.reset();
    const publishAndCheck = (channel: string) => async () => {
      await publish(otherPubSub, channel, "after it");
      return receivedMessages.includes(`${channel} after it`);
    };
    await waitUntil(publishAndCheck(otherChannel));
    await waitUntil(publishAndCheck("parley:test:all"));
    await waitUntil(publishAndCheck(lostChannel));
    await waitUntil(() => pubSub.isConnected() && link.isAvailable());
    const limiter = createLimiter({ name: createId(), rate: { burst: 1, sustained: 100 }, redis: link });
    for (let n = 0; n < 20; n += 1) expect((await limiter.consume(`k${n}`)).isAllowed).toBe(true);
    expect((await limiter.consume("k0")).isAllowed).toBe(false);
    expect(subscribedChannels.filter((channel) => channel === lostChannel).length).toBeGreaterThan(1);
  });
});
