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

type Received = { texts: string[]; remoteFlags: boolean[]; gaps: number; lostInstances: string[]; stop(): void };

/** Subscribes to a conversation, and collects the texts of the deltas received. */
function listen(bus: Bus, conversationId: string): Received {
  const received: Received = { texts: [], remoteFlags: [], gaps: 0, lostInstances: [], stop: () => {} };
  received.stop = bus.subscribe(conversationId, {
    onMessage(message, isRemote) {
      // After a bus failure, the last seqs from the database arrive too.
      if (message.type !== "message.delta") return;
      received.texts.push(message.text);
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
const publishTexts = ({ bus }: BusInstance, conversationId: string, ...texts: string[]) =>
  bus.publish(conversationId, () => texts.map((text) => createDelta(conversationId, text)));
const countMessages = async ({ metrics }: BusInstance, direction: string): Promise<number> => {
  const { values } = await metrics.busMessages.get();
  return values.find(({ labels }) => labels.direction === direction)?.value ?? 0;
};

for (const [name, open] of Object.entries(backends))
  describe(`the bus over ${name}`, () => {
    let backend: BusBackend;
    let instances: BusInstance[] = [];

    beforeAll(async () => {
      backend = await open();
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

    async function openPair(): Promise<[BusInstance, BusInstance, string]> {
      const [a, b] = (await openInstances(2)) as [BusInstance, BusInstance];
      return [a, b, createId()];
    }

    test("delivers messages in order to other instances, and to local subscribers before `publish` returns", async () => {
      const [a, b, id] = await openPair();
      const [local, remote] = [listen(a.bus, id), listen(b.bus, id)];
      await waitUntil(() => remote.gaps > 0 && local.gaps > 0);
      const texts = Array.from({ length: 500 }, (_, n) => `${n}`);
      for (const [n, text] of texts.entries()) {
        publishTexts(a, id, text);
        expect(local.texts).toHaveLength(n + 1);
        // Messages published in different ticks are sent in separate envelopes.
        if (n % 50 === 0) await Bun.sleep(2);
      }
      await waitUntil(() => remote.texts.length >= texts.length);
      publishTexts(b, id, "the last one");
      await waitUntil(() => local.texts.includes("the last one"));
      expect(remote.texts).toEqual([...texts, "the last one"]);
      expect(local.texts).toEqual([...texts, "the last one"]);
      expect(new Set(local.remoteFlags.slice(0, -1))).toEqual(new Set([false]));
      expect(new Set(remote.remoteFlags.slice(0, -1))).toEqual(new Set([true]));
      expect(local.remoteFlags.at(-1)).toBe(true);
      expect(await countMessages(b, "in")).toBe(texts.length);
      expect(await countMessages(a, "dropped")).toBe(0);
    });

    test("delivers long texts in any script unchanged", async () => {
      const [a, b, id] = await openPair();
      const other = listen(b.bus, id);
      await waitUntil(() => other.gaps > 0);
      const texts = ["a", "é", "語", "😀", "\u0000", "\n#x 0 1 ", "a😀"].flatMap((piece) => [
        piece.repeat(7_990),
        piece.repeat(30_011),
      ]);
      publishTexts(a, id, ...texts);
      publishTexts(a, id, "short");
      await waitUntil(() => other.texts.length > texts.length);
      expect(other.texts).toEqual([...texts, "short"]);
    });

    test("delivers messages on many channels to the right subscribers", async () => {
      const [a, b] = await openPair();
      const ids = Array.from({ length: 1_500 }, () => createId());
      const received = new Map(ids.map((id) => [id, listen(b.bus, id)]));
      await waitUntil(() => [...received.values()].every(({ gaps }) => gaps > 0));
      const unsubscribed = new Set(ids.filter((_, n) => n % 3 === 0));
      for (const id of unsubscribed) received.get(id)?.stop();
      for (const id of ids) publishTexts(a, id, id);
      const subscribed = ids.filter((id) => !unsubscribed.has(id));
      await waitUntil(() => subscribed.every((id) => received.get(id)?.texts.length === 1));
      expect(subscribed.every((id) => received.get(id)?.texts[0] === id)).toBe(true);
      expect([...unsubscribed].flatMap((id) => received.get(id)?.texts)).toEqual([]);
    });

    test("notifies each new subscriber when its subscription is active, even if it resubscribes immediately", async () => {
      const [a, b, id] = await openPair();
      listen(b.bus, id).stop();
      const resubscribed = listen(b.bus, id);
      await waitUntil(() => resubscribed.gaps > 0);
      publishTexts(a, id, "received");
      await waitUntil(() => resubscribed.texts.length > 0);
      expect(resubscribed.texts).toEqual(["received"]);
    });

    test("delivers global channels to all instances", async () => {
      const [a, b, c] = (await openInstances(3)) as [BusInstance, BusInstance, BusInstance];
      const received: string[][] = [[], [], []];
      for (const [n, { bus }] of [a, b, c].entries())
        bus.subscribe("credentials", { onMessage: ({ ids }) => received[n]?.push(...ids), onGap() {} });
      a.bus.publish("credentials", () => [{ type: "credentials.ended", ids: ["one"] }]);
      await waitUntil(() => received.every((ids) => ids.length === 1));
      expect(received).toEqual([["one"], ["one"], ["one"]]);
    });

    test("reports a gap on both instances after connections break, then continues", async () => {
      const [a, b, id] = await openPair();
      const [local, remote] = [listen(a.bus, id), listen(b.bus, id)];
      await waitUntil(() => remote.gaps > 0 && local.gaps > 0);
      local.gaps = 0;
      remote.gaps = 0;
      backend.reset();
      await waitUntil(() => local.gaps > 0 && remote.gaps > 0 && a.bus.isHealthy() && b.bus.isHealthy());
      publishTexts(a, id, "after the gap");
      await waitUntil(() => remote.texts.includes("after the gap"));
    });

    test("detects a network that drops everything, limits the queue, and reports a gap afterwards", async () => {
      const [a, b, id] = await openPair();
      const other = listen(b.bus, id);
      await waitUntil(() => other.gaps > 0);
      other.gaps = 0;
      backend.cut();
      const text = "x".repeat(100_000);
      for (let n = 0; n < 300; n += 1) {
        publishTexts(a, id, text);
        if (n % 10 === 0) await Bun.sleep(1);
      }
      // A few MB of the 30 MB are queued, and the rest is dropped immediately.
      expect(await countMessages(a, "dropped")).toBeGreaterThan(150);
      await waitUntil(() => !a.bus.isHealthy() && !b.bus.isHealthy());
      backend.restore();
      await waitUntil(() => a.bus.isHealthy() && b.bus.isHealthy() && other.gaps > 0);
      const before = other.texts.length;
      publishTexts(a, id, "again");
      await waitUntil(() => other.texts.includes("again"));
      expect(before).toBeLessThan(150);
    });

    test("reports an instance that has stopped", async () => {
      const [a, b, id] = await openPair();
      const other = listen(b.bus, id);
      await a.bus.close();
      // Instances from earlier tests may be reported too.
      await waitUntil(() => other.lostInstances.includes(a.instanceId));
      expect(other.lostInstances).not.toContain(b.instanceId);
      await waitUntil(() => b.bus.listOtherInstances().length === 0);
    });

    test("reports after some heartbeats that it is alone, until another instance starts", async () => {
      const [a] = (await openInstances(1)) as [BusInstance];
      expect(a.bus.isAlone()).toBe(false);
      await waitUntil(() => a.bus.isAlone());
      const newInstance = backend.openInstance();
      instances.push(newInstance);
      await newInstance.bus.waitUntilAnnounced();
      expect([a.bus.isAlone(), newInstance.bus.isAlone()]).toEqual([false, false]);
      await newInstance.bus.close();
      await waitUntil(() => a.bus.isAlone());
    });

    test("sends nothing while it is alone, and reports a gap to a new instance", async () => {
      const [a] = (await openInstances(1)) as [BusInstance];
      const id = createId();
      // An instance considers itself alone only after some heartbeats.
      await waitUntil(async () => {
        publishTexts(a, id, "alone");
        const sent = await countMessages(a, "out");
        await Bun.sleep(50);
        return sent === (await countMessages(a, "out")) && sent > 0;
      });
      const newInstance = backend.openInstance();
      instances.push(newInstance);
      const received = listen(newInstance.bus, id);
      await waitUntil(
        () =>
          newInstance.bus.listOtherInstances().length === 1 &&
          a.bus.listOtherInstances().length === 1 &&
          received.gaps > 0,
      );
      publishTexts(a, id, "together");
      await waitUntil(() => received.texts.length > 0);
      expect(received.texts).toEqual(["together"]);
    });
  });

test("over Postgres, only short messages and member events are sent in full, and other events only as a seq", async () => {
  const backend = await startPostgresBackend();
  const [a, b] = [backend.openInstance(), backend.openInstance()];
  await waitUntil(() => a.bus.listOtherInstances().length === 1 && b.bus.listOtherInstances().length === 1);
  const id = createId();
  const received: BusMessage<string>[] = [];
  const { promise: isReceived, resolve } = Promise.withResolvers<void>();
  b.bus.subscribe(id, { onMessage: (message) => void received.push(message), onGap: resolve });
  await isReceived;
  const createEvent = (type: string, seq: number, data: object = {}) =>
    ({ type, conversation_id: id, seq, at: "", data }) as never;
  const short = createEvent("message.created", 3, { content: "é".repeat(1_000), metadata: {} });
  const last = createEvent("message.updated", 8, { content: "", metadata: {} });
  a.bus.publish(id, () => [
    short,
    createEvent("message.created", 4, { content: "x".repeat(1_001), metadata: {} }),
    createDelta(id, "x"),
    createEvent("member.removed", 5),
    createEvent("message.completed", 6, { content: "short", metadata: { models: ["a"] } }),
    createEvent("conversation.updated", 7),
    last,
  ]);
  await waitUntil(() => received.length >= 5);
  expect(received).toEqual([
    short,
    { type: "events.stored", conversation_id: id, seq: 7 },
    createDelta(id, "x"),
    createEvent("member.removed", 5),
    last,
  ]);
  await Promise.all([a.bus.close(), b.bus.close()]);
  await backend.stop();
});

test("instances use a table if Postgres notifications don't arrive", async () => {
  const backend = await startPostgresBackend(createNotificationFilter);
  const [a, b] = [backend.openInstance(), backend.openInstance()];
  const id = createId();
  const received = listen(b.bus, id);
  await waitUntil(() => a.bus.listOtherInstances().length === 1 && b.bus.listOtherInstances().length === 1);
  const texts = ["one", "é😀".repeat(20_000), "three"];
  for (const text of texts) publishTexts(a, id, text);
  await waitUntil(() => received.texts.length === texts.length);
  expect(received.texts).toEqual(texts);
  // The table is too slow for caches to rely on it.
  expect(b.bus.isHealthy()).toBe(false);
  await a.bus.close();
  await waitUntil(() => received.lostInstances.length > 0);
  expect(received.lostInstances).toEqual([a.instanceId]);
  await b.bus.close();
  await backend.stop();
});
