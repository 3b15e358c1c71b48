import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { createId } from "../../src/lib/id.ts";
import type { Bus, BusMessage, ConversationMessage } from "../../src/realtime/bus.ts";
import {
  type BusEnd,
  type BusForm,
  createNotificationFilter,
  openClusterForm,
  openPostgresForm,
  openRedisForm,
} from "../support/bus-forms.ts";
import { waitUntil } from "../support/wait-until.ts";

const forms: Record<string, () => Promise<BusForm>> = {
  Redis: openRedisForm,
  "Redis Cluster": openClusterForm,
  Postgres: openPostgresForm,
};

type Received = { texts: string[]; remote: boolean[]; gaps: number; gone: string[]; stop(): void };

/** What a subscriber of a conversation receives: texts of deltas. */
function listen(bus: Bus, conversationId: string): Received {
  const received: Received = { texts: [], remote: [], gaps: 0, gone: [], stop: () => {} };
  received.stop = bus.subscribe(conversationId, {
    onMessage(message, isRemote) {
      // After a bus failure, positions from the database are among them.
      if (message.type !== "message.delta") return;
      received.texts.push(message.text);
      received.remote.push(isRemote);
    },
    onGap() {
      received.gaps += 1;
    },
    onPeerLost: (instanceId) => void received.gone.push(instanceId),
  });
  return received;
}

const delta = (conversation_id: string, text: string): ConversationMessage => ({
  type: "message.delta",
  conversation_id,
  message_id: conversation_id,
  attempt: 1,
  offset: 0,
  text,
});
const publishTexts = ({ bus }: BusEnd, conversationId: string, ...texts: string[]) =>
  bus.publish(conversationId, () => texts.map((text) => delta(conversationId, text)));
const countOf = async ({ metrics }: BusEnd, direction: string): Promise<number> => {
  const { values } = await metrics.busMessages.get();
  return values.find(({ labels }) => labels.direction === direction)?.value ?? 0;
};

for (const [name, open] of Object.entries(forms))
  describe(`the bus over ${name}`, () => {
    let form: BusForm;
    let ends: BusEnd[] = [];

    beforeAll(async () => {
      form = await open();
    });
    afterEach(async () => {
      await Promise.all(ends.map(({ bus }) => bus.close()));
      ends = [];
    });
    afterAll(() => form.stop());

    /** Instances that have discovered each other. */
    async function openEnds(count: number): Promise<BusEnd[]> {
      ends = Array.from({ length: count }, () => form.open());
      await waitUntil(() => ends.every(({ bus }) => bus.isHealthy() && bus.listPeers().length === count - 1));
      return ends;
    }

    async function openPair(): Promise<[BusEnd, BusEnd, string]> {
      const [a, b] = (await openEnds(2)) as [BusEnd, BusEnd];
      return [a, b, createId()];
    }

    test("delivers messages to other instances in order, and to its own subscribers once, before publish returns", async () => {
      const [a, b, id] = await openPair();
      const [own, other] = [listen(a.bus, id), listen(b.bus, id)];
      await waitUntil(() => other.gaps > 0 && own.gaps > 0);
      const texts = Array.from({ length: 500 }, (_, n) => `${n}`);
      for (const [n, text] of texts.entries()) {
        publishTexts(a, id, text);
        expect(own.texts).toHaveLength(n + 1);
        // In several ticks, to get several envelopes.
        if (n % 50 === 0) await Bun.sleep(2);
      }
      await waitUntil(() => other.texts.length >= texts.length);
      publishTexts(b, id, "the last one");
      await waitUntil(() => own.texts.includes("the last one"));
      expect(other.texts).toEqual([...texts, "the last one"]);
      expect(own.texts).toEqual([...texts, "the last one"]);
      expect(new Set(own.remote.slice(0, -1))).toEqual(new Set([false]));
      expect(new Set(other.remote.slice(0, -1))).toEqual(new Set([true]));
      expect(own.remote.at(-1)).toBe(true);
      expect(await countOf(b, "in")).toBe(texts.length);
      expect(await countOf(a, "dropped")).toBe(0);
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

    test("delivers the messages of many channels to their subscribers", async () => {
      const [a, b] = await openPair();
      const ids = Array.from({ length: 1_500 }, () => createId());
      const received = new Map(ids.map((id) => [id, listen(b.bus, id)]));
      await waitUntil(() => [...received.values()].every(({ gaps }) => gaps > 0));
      const left = new Set(ids.filter((_, n) => n % 3 === 0));
      for (const id of left) received.get(id)?.stop();
      for (const id of ids) publishTexts(a, id, id);
      const stay = ids.filter((id) => !left.has(id));
      await waitUntil(() => stay.every((id) => received.get(id)?.texts.length === 1));
      expect(stay.every((id) => received.get(id)?.texts[0] === id)).toBe(true);
      expect([...left].flatMap((id) => received.get(id)?.texts)).toEqual([]);
    });

    test("tells each new subscriber when it starts to receive, even one that resubscribes at once", async () => {
      const [a, b, id] = await openPair();
      listen(b.bus, id).stop();
      const again = listen(b.bus, id);
      await waitUntil(() => again.gaps > 0);
      publishTexts(a, id, "received");
      await waitUntil(() => again.texts.length > 0);
      expect(again.texts).toEqual(["received"]);
    });

    test("delivers the channels for all instances to all of them", async () => {
      const [a, b, c] = (await openEnds(3)) as [BusEnd, BusEnd, BusEnd];
      const received: string[][] = [[], [], []];
      for (const [n, { bus }] of [a, b, c].entries())
        bus.subscribe("credentials", { onMessage: ({ ids }) => received[n]?.push(...ids), onGap() {} });
      a.bus.publish("credentials", () => [{ type: "credentials.ended", ids: ["one"] }]);
      await waitUntil(() => received.every((ids) => ids.length === 1));
      expect(received).toEqual([["one"], ["one"], ["one"]]);
    });

    test("reports a gap on both sides after connections broke, and continues", async () => {
      const [a, b, id] = await openPair();
      const [own, other] = [listen(a.bus, id), listen(b.bus, id)];
      await waitUntil(() => other.gaps > 0 && own.gaps > 0);
      own.gaps = 0;
      other.gaps = 0;
      form.reset();
      await waitUntil(() => own.gaps > 0 && other.gaps > 0 && a.bus.isHealthy() && b.bus.isHealthy());
      publishTexts(a, id, "after it");
      await waitUntil(() => other.texts.includes("after it"));
    });

    test("detects a network that drops everything, limits the queue, and reports a gap afterwards", async () => {
      const [a, b, id] = await openPair();
      const other = listen(b.bus, id);
      await waitUntil(() => other.gaps > 0);
      other.gaps = 0;
      form.cut();
      const text = "x".repeat(100_000);
      for (let n = 0; n < 300; n += 1) {
        publishTexts(a, id, text);
        if (n % 10 === 0) await Bun.sleep(1);
      }
      // Of 30 MB a few are queued, the rest is dropped at once.
      expect(await countOf(a, "dropped")).toBeGreaterThan(150);
      await waitUntil(() => !a.bus.isHealthy() && !b.bus.isHealthy());
      form.restore();
      await waitUntil(() => a.bus.isHealthy() && b.bus.isHealthy() && other.gaps > 0);
      const before = other.texts.length;
      publishTexts(a, id, "again");
      await waitUntil(() => other.texts.includes("again"));
      expect(before).toBeLessThan(150);
    });

    test("reports when an instance has ended", async () => {
      const [a, b, id] = await openPair();
      const other = listen(b.bus, id);
      await a.bus.close();
      await waitUntil(() => other.gone.length > 0);
      expect(other.gone).toEqual([a.instanceId]);
      expect(b.bus.listPeers()).toEqual([]);
    });

    test("is certain to be alone after some heartbeats, until another instance starts", async () => {
      const [a] = (await openEnds(1)) as [BusEnd];
      expect(a.bus.isAlone()).toBe(false);
      await waitUntil(() => a.bus.isAlone());
      const late = form.open();
      ends.push(late);
      await late.bus.untilAnnounced();
      expect([a.bus.isAlone(), late.bus.isAlone()]).toEqual([false, false]);
      await late.bus.close();
      await waitUntil(() => a.bus.isAlone());
    });

    test("sends nothing while it is alone, and reports a gap to an instance that starts", async () => {
      const [a] = (await openEnds(1)) as [BusEnd];
      const id = createId();
      // It takes some heartbeats until an instance considers itself alone.
      await waitUntil(async () => {
        publishTexts(a, id, "alone");
        const sent = await countOf(a, "out");
        await Bun.sleep(50);
        return sent === (await countOf(a, "out")) && sent > 0;
      });
      const late = form.open();
      ends.push(late);
      const received = listen(late.bus, id);
      await waitUntil(() => late.bus.listPeers().length === 1 && a.bus.listPeers().length === 1 && received.gaps > 0);
      publishTexts(a, id, "together");
      await waitUntil(() => received.texts.length > 0);
      expect(received.texts).toEqual(["together"]);
    });
  });

test("over Postgres, events are sent as a seq only, except short messages and those about members", async () => {
  const form = await openPostgresForm();
  const [a, b] = [form.open(), form.open()];
  await waitUntil(() => a.bus.listPeers().length === 1 && b.bus.listPeers().length === 1);
  const id = createId();
  const received: BusMessage<string>[] = [];
  const { promise: isReceived, resolve } = Promise.withResolvers<void>();
  b.bus.subscribe(id, { onMessage: (message) => void received.push(message), onGap: resolve });
  await isReceived;
  const event = (type: string, seq: number, data: object = {}) =>
    ({ type, conversation_id: id, seq, at: "", data }) as never;
  const short = event("message.created", 3, { content: "é".repeat(1_000), metadata: {} });
  const last = event("message.updated", 8, { content: "", metadata: {} });
  a.bus.publish(id, () => [
    short,
    event("message.created", 4, { content: "x".repeat(1_001), metadata: {} }),
    delta(id, "x"),
    event("member.removed", 5),
    event("message.completed", 6, { content: "short", metadata: { models: ["a"] } }),
    event("conversation.updated", 7),
    last,
  ]);
  await waitUntil(() => received.length >= 5);
  expect(received).toEqual([
    short,
    { type: "events.stored", conversation_id: id, seq: 7 },
    delta(id, "x"),
    event("member.removed", 5),
    last,
  ]);
  await Promise.all([a.bus.close(), b.bus.close()]);
  await form.stop();
});

test("where Postgres' notifications don't arrive, instances use a table instead", async () => {
  const form = await openPostgresForm(createNotificationFilter);
  const [a, b] = [form.open(), form.open()];
  const id = createId();
  const received = listen(b.bus, id);
  await waitUntil(() => a.bus.listPeers().length === 1 && b.bus.listPeers().length === 1);
  const texts = ["one", "é😀".repeat(20_000), "three"];
  for (const text of texts) publishTexts(a, id, text);
  await waitUntil(() => received.texts.length === texts.length);
  expect(received.texts).toEqual(texts);
  // It is delayed: nothing that must be current may rely on it.
  expect(b.bus.isHealthy()).toBe(false);
  await a.bus.close();
  await waitUntil(() => received.gone.length > 0);
  expect(received.gone).toEqual([a.instanceId]);
  await b.bus.close();
  await form.stop();
});
