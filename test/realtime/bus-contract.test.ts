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

type Heard = { texts: string[]; remote: boolean[]; gaps: number; gone: string[]; stop(): void };

/** What a subscriber of a conversation hears: texts of deltas. */
function listen(bus: Bus, conversationId: string): Heard {
  const heard: Heard = { texts: [], remote: [], gaps: 0, gone: [], stop: () => {} };
  heard.stop = bus.subscribe(conversationId, {
    onMessage(message, isRemote) {
      // While the bus is away, there are positions of the database among them.
      if (message.type !== "message.delta") return;
      heard.texts.push(message.text);
      heard.remote.push(isRemote);
    },
    onGap() {
      heard.gaps += 1;
    },
    onPeerLost: (instanceId) => void heard.gone.push(instanceId),
  });
  return heard;
}

const delta = (conversation_id: string, text: string): ConversationMessage => ({
  type: "message.delta",
  conversation_id,
  message_id: conversation_id,
  attempt: 1,
  offset: 0,
  text,
});
const say = ({ bus }: BusEnd, conversationId: string, ...texts: string[]) =>
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

    /** So many instances that know of each other. */
    async function openEnds(count: number): Promise<BusEnd[]> {
      ends = Array.from({ length: count }, () => form.open());
      await waitUntil(() => ends.every(({ bus }) => bus.isHealthy() && bus.listPeers().length === count - 1));
      return ends;
    }

    async function openPair(): Promise<[BusEnd, BusEnd, string]> {
      const [a, b] = (await openEnds(2)) as [BusEnd, BusEnd];
      return [a, b, createId()];
    }

    test("brings messages to other instances in order, and to its own subscribers once, before publish returns", async () => {
      const [a, b, id] = await openPair();
      const [own, other] = [listen(a.bus, id), listen(b.bus, id)];
      await waitUntil(() => other.gaps > 0 && own.gaps > 0);
      const texts = Array.from({ length: 500 }, (_, n) => `${n}`);
      for (const [n, text] of texts.entries()) {
        say(a, id, text);
        expect(own.texts).toHaveLength(n + 1);
        // In several moments, so that there are several envelopes.
        if (n % 50 === 0) await Bun.sleep(2);
      }
      await waitUntil(() => other.texts.length >= texts.length);
      say(b, id, "the last one");
      await waitUntil(() => own.texts.includes("the last one"));
      expect(other.texts).toEqual([...texts, "the last one"]);
      expect(own.texts).toEqual([...texts, "the last one"]);
      expect(new Set(own.remote.slice(0, -1))).toEqual(new Set([false]));
      expect(new Set(other.remote.slice(0, -1))).toEqual(new Set([true]));
      expect(own.remote.at(-1)).toBe(true);
      expect(await countOf(b, "in")).toBe(texts.length);
      expect(await countOf(a, "dropped")).toBe(0);
    });

    test("brings long texts in any script as they are", async () => {
      const [a, b, id] = await openPair();
      const other = listen(b.bus, id);
      await waitUntil(() => other.gaps > 0);
      const texts = ["a", "é", "語", "😀", "\u0000", "\n#x 0 1 ", "a😀"].flatMap((piece) => [
        piece.repeat(7_990),
        piece.repeat(30_011),
      ]);
      say(a, id, ...texts);
      say(a, id, "short");
      await waitUntil(() => other.texts.length > texts.length);
      expect(other.texts).toEqual([...texts, "short"]);
    });

    test("brings the messages of each of many channels to those who subscribe to it", async () => {
      const [a, b] = await openPair();
      const ids = Array.from({ length: 1_500 }, () => createId());
      const heard = new Map(ids.map((id) => [id, listen(b.bus, id)]));
      await waitUntil(() => [...heard.values()].every(({ gaps }) => gaps > 0));
      const left = new Set(ids.filter((_, n) => n % 3 === 0));
      for (const id of left) heard.get(id)?.stop();
      for (const id of ids) say(a, id, id);
      const stay = ids.filter((id) => !left.has(id));
      await waitUntil(() => stay.every((id) => heard.get(id)?.texts.length === 1));
      expect(stay.every((id) => heard.get(id)?.texts[0] === id)).toBe(true);
      expect([...left].flatMap((id) => heard.get(id)?.texts)).toEqual([]);
    });

    test("tells each new subscriber when it is heard, also one who comes again at once", async () => {
      const [a, b, id] = await openPair();
      listen(b.bus, id).stop();
      const again = listen(b.bus, id);
      await waitUntil(() => again.gaps > 0);
      say(a, id, "heard");
      await waitUntil(() => again.texts.length > 0);
      expect(again.texts).toEqual(["heard"]);
    });

    test("brings the channels of all instances to all of them", async () => {
      const [a, b, c] = (await openEnds(3)) as [BusEnd, BusEnd, BusEnd];
      const heard: string[][] = [[], [], []];
      for (const [n, { bus }] of [a, b, c].entries())
        bus.subscribe("credentials", { onMessage: ({ ids }) => heard[n]?.push(...ids), onGap() {} });
      a.bus.publish("credentials", () => [{ type: "credentials.ended", ids: ["one"] }]);
      await waitUntil(() => heard.every((ids) => ids.length === 1));
      expect(heard).toEqual([["one"], ["one"], ["one"]]);
    });

    test("tells of a gap on both sides after connections broke, and goes on", async () => {
      const [a, b, id] = await openPair();
      const [own, other] = [listen(a.bus, id), listen(b.bus, id)];
      await waitUntil(() => other.gaps > 0 && own.gaps > 0);
      own.gaps = 0;
      other.gaps = 0;
      form.reset();
      await waitUntil(() => own.gaps > 0 && other.gaps > 0 && a.bus.isHealthy() && b.bus.isHealthy());
      say(a, id, "after it");
      await waitUntil(() => other.texts.includes("after it"));
    });

    test("notices a network that swallows everything, bounds what waits, and tells of a gap afterwards", async () => {
      const [a, b, id] = await openPair();
      const other = listen(b.bus, id);
      await waitUntil(() => other.gaps > 0);
      other.gaps = 0;
      form.cut();
      const text = "x".repeat(100_000);
      for (let n = 0; n < 300; n += 1) {
        say(a, id, text);
        if (n % 10 === 0) await Bun.sleep(1);
      }
      // Of 30 MB a few wait, the rest is dropped at once.
      expect(await countOf(a, "dropped")).toBeGreaterThan(150);
      await waitUntil(() => !a.bus.isHealthy() && !b.bus.isHealthy());
      form.mend();
      await waitUntil(() => a.bus.isHealthy() && b.bus.isHealthy() && other.gaps > 0);
      const before = other.texts.length;
      say(a, id, "again");
      await waitUntil(() => other.texts.includes("again"));
      expect(before).toBeLessThan(150);
    });

    test("tells when an instance has ended", async () => {
      const [a, b, id] = await openPair();
      const other = listen(b.bus, id);
      await a.bus.close();
      await waitUntil(() => other.gone.length > 0);
      expect(other.gone).toEqual([a.instanceId]);
      expect(b.bus.listPeers()).toEqual([]);
    });

    test("is certain that it is alone after some beats, and not any more once another one that starts is heard", async () => {
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

    test("sends nothing while it is alone, and tells an instance that comes of a gap", async () => {
      const [a] = (await openEnds(1)) as [BusEnd];
      const id = createId();
      // It takes some beats until an instance may take itself for alone.
      await waitUntil(async () => {
        say(a, id, "alone");
        const sent = await countOf(a, "out");
        await Bun.sleep(50);
        return sent === (await countOf(a, "out")) && sent > 0;
      });
      const late = form.open();
      ends.push(late);
      const heard = listen(late.bus, id);
      await waitUntil(() => late.bus.listPeers().length === 1 && a.bus.listPeers().length === 1 && heard.gaps > 0);
      say(a, id, "together");
      await waitUntil(() => heard.texts.length > 0);
      expect(heard.texts).toEqual(["together"]);
    });
  });

test("over Postgres, events go as a number, but for short messages and those of members", async () => {
  const form = await openPostgresForm();
  const [a, b] = [form.open(), form.open()];
  await waitUntil(() => a.bus.listPeers().length === 1 && b.bus.listPeers().length === 1);
  const id = createId();
  const heard: BusMessage<string>[] = [];
  const { promise: isHeard, resolve } = Promise.withResolvers<void>();
  b.bus.subscribe(id, { onMessage: (message) => void heard.push(message), onGap: resolve });
  await isHeard;
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
  await waitUntil(() => heard.length >= 5);
  expect(heard).toEqual([
    short,
    { type: "events.stored", conversation_id: id, seq: 7 },
    delta(id, "x"),
    event("member.removed", 5),
    last,
  ]);
  await Promise.all([a.bus.close(), b.bus.close()]);
  await form.stop();
});

test("where Postgres' notifications don't arrive, instances hear of each other through a table", async () => {
  const form = await openPostgresForm(createNotificationFilter);
  const [a, b] = [form.open(), form.open()];
  const id = createId();
  const heard = listen(b.bus, id);
  await waitUntil(() => a.bus.listPeers().length === 1 && b.bus.listPeers().length === 1);
  const texts = ["one", "é😀".repeat(20_000), "three"];
  for (const text of texts) say(a, id, text);
  await waitUntil(() => heard.texts.length === texts.length);
  expect(heard.texts).toEqual(texts);
  // It is late: nothing may count on it that has to be right at once.
  expect(b.bus.isHealthy()).toBe(false);
  await a.bus.close();
  await waitUntil(() => heard.gone.length > 0);
  expect(heard.gone).toEqual([a.instanceId]);
  await b.bus.close();
  await form.stop();
});
