import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { createId } from "../../src/lib/id.ts";
import type { Bus, BusMessage, ConversationMessage } from "../../src/realtime/bus.ts";
import {
  type BusBackend,
  type BusInstance,
  createNotificationFilter,
  startPostgresBackend,
  startRedisBackend,
  startRedisClusterBackend,
} from "../support/bus-backends.ts";
import { waitUntil } from "../support/wait-until.ts";

const backends: Record<string, () => Promise<BusBackend>> = {
  Redis: startRedisBackend,
  "Redis Cluster": startRedisClusterBackend,
  Postgres: startPostgresBackend,
};

type Received = { deltas: string[]; remoteFlags: boolean[]; gaps: number; lostInstances: string[]; stop(): void };

/** Subscribes to a conversation, and collects the received deltas. */
function collectMessages(bus: Bus, conversationId: string): Received {
  const received: Received = { deltas: [], remoteFlags: [], gaps: 0, lostInstances: [], stop: () => {} };
  received.stop = bus.subscribe(conversationId, {
    onMessage(message, isRemote) {
      // After a bus failure, messages with the latest seqs from the database also arrive.
      if (message.type !== "message.delta") return;
      received.deltas.push(message.text);
      received.remoteFlags.push(isRemote);
    },
    onGap() {
      received.gaps += 1;
    },
    onInstanceLost: (instanceId) => void received.lostInstances.push(instanceId),
  });
  return received;
}

const createDelta = (conversation_id: string, text: string): ConversationMessage => ({
  type: "message.delta",
  conversation_id,
  message_id: conversation_id,
  attempt: 1,
  offset: 0,
  text,
});
const publishDeltas = ({ bus }: BusInstance, conversationId: string, ...deltas: string[]) =>
  bus.publish(conversationId, () => deltas.map((text) => createDelta(conversationId, text)));
const countMessages = async ({ metrics }: BusInstance, direction: string): Promise<number> => {
  const { values } = await metrics.busMessages.get();
  return values.find(({ labels }) => labels.direction === direction)?.value ?? 0;
};

for (const [name, startBackend] of Object.entries(backends))
  describe(`the bus over ${name}`, () => {
    let backend: BusBackend;
    let instances: BusInstance[] = [];

    beforeAll(async () => {
      backend = await startBackend();
    });
    afterEach(async () => {
      await Promise.all(instances.map(({ bus }) => bus.close()));
      instances = [];
    });
    afterAll(() => backend.stop());

    /** Opens instances, and waits until they have discovered each other. */
    async function openInstances(count: number): Promise<BusInstance[]> {
      instances = Array.from({ length: count }, () => backend.openInstance());
      await waitUntil(() =>
        instances.every(({ bus }) => bus.isHealthy() && bus.listOtherInstances().length === count - 1),
      );
      return instances;
    }

    async function openInstancePair(): Promise<[BusInstance, BusInstance, string]> {
      const [first, second] = (await openInstances(2)) as [BusInstance, BusInstance];
      return [first, second, createId()];
    }

    test("delivers messages in order to other instances, and to local subscribers before `publish` returns", async () => {
      const [first, second, id] = await openInstancePair();
      const [local, remote] = [collectMessages(first.bus, id), collectMessages(second.bus, id)];
      await waitUntil(() => remote.gaps > 0 && local.gaps > 0);
      const sentDeltas = Array.from({ length: 500 }, (_, n) => `${n}`);
      for (const [n, text] of sentDeltas.entries()) {
        publishDeltas(first, id, text);
        expect(local.deltas).toHaveLength(n + 1);
        // Messages published in different ticks are sent in separate envelopes.
        if (n % 50 === 0) await Bun.sleep(2);
      }
      await waitUntil(() => remote.deltas.length >= sentDeltas.length);
      publishDeltas(second, id, "the last one");
      await waitUntil(() => local.deltas.includes("the last one"));
      expect(remote.deltas).toEqual([...sentDeltas, "the last one"]);
      expect(local.deltas).toEqual([...sentDeltas, "the last one"]);
      expect(new Set(local.remoteFlags.slice(0, -1))).toEqual(new Set([false]));
      expect(new Set(remote.remoteFlags.slice(0, -1))).toEqual(new Set([true]));
      expect(local.remoteFlags.at(-1)).toBe(true);
      expect(await countMessages(second, "in")).toBe(sentDeltas.length);
      expect(await countMessages(first, "dropped")).toBe(0);
    });

    test("delivers long deltas in any script unchanged", async () => {
      const [first, second, id] = await openInstancePair();
      const received = collectMessages(second.bus, id);
      await waitUntil(() => received.gaps > 0);
      const sentDeltas = ["a", "é", "語", "😀", "\u0000", "\n#x 0 1 ", "a😀"].flatMap((piece) => [
        piece.repeat(7_990),
        piece.repeat(30_011),
      ]);
      publishDeltas(first, id, ...sentDeltas);
      publishDeltas(first, id, "short");
      await waitUntil(() => received.deltas.length > sentDeltas.length);
      expect(received.deltas).toEqual([...sentDeltas, "short"]);
    });

    test("delivers messages on many channels only to their subscribers", async () => {
      const [first, second] = await openInstancePair();
      const ids = Array.from({ length: 1_500 }, () => createId());
      const received = new Map(ids.map((id) => [id, collectMessages(second.bus, id)]));
      await waitUntil(() => [...received.values()].every(({ gaps }) => gaps > 0));
      const unsubscribedIds = new Set(ids.filter((_, n) => n % 3 === 0));
      for (const id of unsubscribedIds) received.get(id)?.stop();
      for (const id of ids) publishDeltas(first, id, id);
      const subscribedIds = ids.filter((id) => !unsubscribedIds.has(id));
      await waitUntil(() => subscribedIds.every((id) => received.get(id)?.deltas.length === 1));
      expect(subscribedIds.every((id) => received.get(id)?.deltas[0] === id)).toBe(true);
      expect([...unsubscribedIds].flatMap((id) => received.get(id)?.deltas)).toEqual([]);
    });

    test("notifies each new subscriber when its subscription is active, even if it resubscribes immediately", async () => {
      const [first, second, id] = await openInstancePair();
      collectMessages(second.bus, id).stop();
      const resubscribed = collectMessages(second.bus, id);
      await waitUntil(() => resubscribed.gaps > 0);
      publishDeltas(first, id, "received");
      await waitUntil(() => resubscribed.deltas.length > 0);
      expect(resubscribed.deltas).toEqual(["received"]);
    });

    test("delivers global channels to all instances", async () => {
      const [first, second, third] = (await openInstances(3)) as [BusInstance, BusInstance, BusInstance];
      const received: string[][] = [[], [], []];
      for (const [n, { bus }] of [first, second, third].entries())
        bus.subscribe("credentials", { onMessage: ({ ids }) => received[n]?.push(...ids), onGap() {} });
      first.bus.publish("credentials", () => [{ type: "credentials.ended", ids: ["one"] }]);
      await waitUntil(() => received.every((ids) => ids.length === 1));
      expect(received).toEqual([["one"], ["one"], ["one"]]);
    });

    test("reports a gap on both instances after connections break, then continues", async () => {
      const [first, second, id] = await openInstancePair();
      const [local, remote] = [collectMessages(first.bus, id), collectMessages(second.bus, id)];
      await waitUntil(() => remote.gaps > 0 && local.gaps > 0);
      local.gaps = 0;
      remote.gaps = 0;
      backend.reset();
      await waitUntil(() => local.gaps > 0 && remote.gaps > 0 && first.bus.isHealthy() && second.bus.isHealthy());
      publishDeltas(first, id, "after the gap");
      await waitUntil(() => remote.deltas.includes("after the gap"));
    });

    test("detects that the network drops everything, limits the queue, and reports a gap afterwards", async () => {
      const [first, second, id] = await openInstancePair();
      const received = collectMessages(second.bus, id);
      await waitUntil(() => received.gaps > 0);
      received.gaps = 0;
      backend.cut();
      const text = "x".repeat(100_000);
      for (let n = 0; n < 300; n += 1) {
        publishDeltas(first, id, text);
        if (n % 10 === 0) await Bun.sleep(1);
      }
      // A few MB of the 30 MB are queued, and the rest is dropped immediately.
      expect(await countMessages(first, "dropped")).toBeGreaterThan(150);
      await waitUntil(() => !first.bus.isHealthy() && !second.bus.isHealthy());
      backend.restore();
      await waitUntil(() => first.bus.isHealthy() && second.bus.isHealthy() && received.gaps > 0);
      const deltaCountBefore = received.deltas.length;
      publishDeltas(first, id, "again");
      await waitUntil(() => received.deltas.includes("again"));
      expect(deltaCountBefore).toBeLessThan(150);
    });

    test("reports an instance that has stopped", async () => {
      const [first, second, id] = await openInstancePair();
      const received = collectMessages(second.bus, id);
      await first.bus.close();
      // Instances from earlier tests may be reported too.
      await waitUntil(() => received.lostInstances.includes(first.instanceId));
      expect(received.lostInstances).not.toContain(second.instanceId);
      await waitUntil(() => second.bus.listOtherInstances().length === 0);
    });

    test("reports after some heartbeats that its instance is alone, until a new instance starts", async () => {
      const [first] = (await openInstances(1)) as [BusInstance];
      expect(first.bus.isAlone()).toBe(false);
      await waitUntil(() => first.bus.isAlone());
      const newInstance = backend.openInstance();
      instances.push(newInstance);
      await newInstance.bus.waitUntilAnnounced();
      expect([first.bus.isAlone(), newInstance.bus.isAlone()]).toEqual([false, false]);
      await newInstance.bus.close();
      await waitUntil(() => first.bus.isAlone());
    });

    test("sends nothing while its instance is alone, and reports a gap to a new instance", async () => {
      const [first] = (await openInstances(1)) as [BusInstance];
      const id = createId();
      // An instance considers itself alone only after some heartbeats.
      await waitUntil(async () => {
        publishDeltas(first, id, "alone");
        const sentCount = await countMessages(first, "out");
        await Bun.sleep(50);
        return sentCount === (await countMessages(first, "out")) && sentCount > 0;
      });
      const newInstance = backend.openInstance();
      instances.push(newInstance);
      const received = collectMessages(newInstance.bus, id);
      await waitUntil(
        () =>
          newInstance.bus.listOtherInstances().length === 1 &&
          first.bus.listOtherInstances().length === 1 &&
          received.gaps > 0,
      );
      publishDeltas(first, id, "together");
      await waitUntil(() => received.deltas.length > 0);
      expect(received.deltas).toEqual(["together"]);
    });
  });

test("the bus over Postgres sends complete short messages and member events, but only the seq of any other event", async () => {
  const backend = await startPostgresBackend();
  const [first, second] = [backend.openInstance(), backend.openInstance()];
  await waitUntil(() => first.bus.listOtherInstances().length === 1 && second.bus.listOtherInstances().length === 1);
  const id = createId();
  const received: BusMessage<string>[] = [];
  const { promise: subscribed, resolve } = Promise.withResolvers<void>();
  second.bus.subscribe(id, { onMessage: (message) => void received.push(message), onGap: resolve });
  await subscribed;
  const createEvent = (type: string, seq: number, data: object = {}) =>
    ({ type, conversation_id: id, seq, at: "", data }) as never;
  const shortEvent = createEvent("message.created", 3, { content: "é".repeat(1_000), metadata: {} });
  const lastEvent = createEvent("message.updated", 8, { content: "", metadata: {} });
  first.bus.publish(id, () => [
    shortEvent,
    createEvent("message.created", 4, { content: "x".repeat(1_001), metadata: {} }),
    createDelta(id, "x"),
    createEvent("member.removed", 5),
    createEvent("message.completed", 6, { content: "short", metadata: { models: ["a"] } }),
    createEvent("conversation.updated", 7),
    lastEvent,
  ]);
  await waitUntil(() => received.length >= 5);
  expect(received).toEqual([
    shortEvent,
    { type: "events.stored", conversation_id: id, seq: 7 },
    createDelta(id, "x"),
    createEvent("member.removed", 5),
    lastEvent,
  ]);
  await Promise.all([first.bus.close(), second.bus.close()]);
  await backend.stop();
});

test("instances use a table if Postgres notifications don't arrive", async () => {
  const backend = await startPostgresBackend(createNotificationFilter);
  const [first, second] = [backend.openInstance(), backend.openInstance()];
  const id = createId();
  const received = collectMessages(second.bus, id);
  await waitUntil(() => first.bus.listOtherInstances().length === 1 && second.bus.listOtherInstances().length === 1);
  const sentDeltas = ["one", "é😀".repeat(20_000), "three"];
  for (const text of sentDeltas) publishDeltas(first, id, text);
  await waitUntil(() => received.deltas.length === sentDeltas.length);
  expect(received.deltas).toEqual(sentDeltas);
  // The table is too slow for caches to rely on it.
  expect(second.bus.isHealthy()).toBe(false);
  await first.bus.close();
  await waitUntil(() => received.lostInstances.length > 0);
  expect(received.lostInstances).toEqual([first.instanceId]);
  await second.bus.close();
  await backend.stop();
});
