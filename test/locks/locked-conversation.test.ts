import { afterAll, beforeAll, expect, test } from "bun:test";
import type { SentMessage } from "../../src/modules/messages/model.ts";
import type { Message } from "../../src/protocol/message.ts";
import { type Asking, startAsking } from "../generations/start-asking.ts";
import { createConversation } from "../support/conversation.ts";
import { createRest, type Rest } from "../support/rest.ts";
import { openSocket, type TestSocket } from "../support/socket.ts";

/** Far above what a send takes, far below how long the locks are held. */
const UNDISTURBED_MS = 2_500;

let asking: Asking;
let anna: Rest;
let ben: Rest;
let socket: TestSocket;
let locked: string;
let free: string;

beforeAll(async () => {
  asking = await startAsking();
  const { parley } = asking;
  anna = createRest(parley, await parley.register(undefined, "Anna"));
  ben = createRest(parley, await parley.register(undefined, "Ben"));
  socket = await openSocket(parley.url, { token: anna.account.access_token });
  locked = (await createConversation(parley, anna.account)).id;
  free = (await createConversation(parley, ben.account)).id;
});
afterAll(() => asking.stop());

/** Locks rows as another instance would, for `ms`, while `work` runs. */
async function whileLocked<T>(ms: number, lock: string, id: string, work: () => Promise<T>): Promise<T> {
  let running: Promise<T> | undefined;
  await asking.parley.database.begin(async (sql) => {
    await sql`set local idle_in_transaction_session_timeout = 0`;
    await sql.unsafe(lock, [id]);
    running = work();
    await Promise.race([Bun.sleep(ms), running.then(() => Bun.sleep(ms))]);
  });
  return running as Promise<T>;
}
const LOCK_CONVERSATION = "select 1 from conversations where id = $1 for update";

const send = (rest: Rest, id: string, content: string, more: Record<string, unknown> = {}) =>
  rest.ask<SentMessage>("POST", `/conversations/${id}/messages`, { content, reply: false, ...more });

/** How long each send into the free conversation took, one after the other, for so long. */
async function sendUndisturbed(ms: number): Promise<number[]> {
  const took: number[] = [];
  const endsAtMs = performance.now() + ms;
  while (performance.now() < endsAtMs) {
    const startedAtMs = performance.now();
    expect((await send(ben, free, "hello")).status).toBe(201);
    took.push(performance.now() - startedAtMs);
    await Bun.sleep(20);
  }
  return took;
}

const listContents = async (id: string) =>
  (await anna.get<{ data: Message[] }>(`/conversations/${id}/messages?limit=200`)).body.data.map(
    ({ content }) => content,
  );

test("for 4 s delays nobody else; what is sent to it is stored in order when it is free", async () => {
  const sent = Array.from({ length: 20 }, (_, n) => `${n}`);
  const { acks, took } = await whileLocked(4_000, LOCK_CONVERSATION, locked, async () => {
    const acks = sent.map((content, n) =>
      socket.ask({
        type: "message.send",
        id: `l${n}`,
        conversation_id: locked,
        client_message_id: `l${n}`,
        content,
        reply: false,
      }),
    );
    return { acks, took: await sendUndisturbed(3_500) };
  });
  expect(Math.max(...took)).toBeLessThan(UNDISTURBED_MS);
  expect(took.length).toBeGreaterThan(20);
  expect((await Promise.all(acks)).map(({ type }) => type)).toEqual(sent.map(() => "ack"));
  expect(await listContents(locked)).toEqual(sent);
}, 30_000);

test("for 40 s is refused for now: sends, changes and stops; answers end when it is free; health stays", async () => {
  const { parley, provider } = asking;
  provider.script("one", { pieces: Array.from({ length: 20 }, (_, n) => `w${n} `), pieceDelayMs: 50 });
  const answered = await send(anna, locked, "Talk.", { reply: true });
  const answer = `/conversations/${locked}/messages/${answered.body.reply?.id}`;
  const result = await whileLocked(40_000, LOCK_CONVERSATION, locked, async () => {
    const startedAtMs = performance.now();
    const undisturbed = sendUndisturbed(14_000);
    const health: number[] = [];
    const watch = (async () => {
      while (performance.now() - startedAtMs < 14_000) {
        const askedAtMs = performance.now();
        expect((await fetch(`${parley.url}/readyz`)).status).toBe(200);
        health.push(performance.now() - askedAtMs);
        await Bun.sleep(50);
      }
    })();
    socket.send({
      type: "message.send",
      id: "early",
      conversation_id: locked,
      client_message_id: "early",
      content: "too early as well",
      reply: false,
    });
    const refusals = await Promise.all([
      ...Array.from({ length: 15 }, (_, n) => anna.ask("PATCH", `/conversations/${locked}`, { title: `${n}` })),
      anna.ask("PATCH", `/conversations/${locked}/messages/${answered.body.message.id}`, { content: "edited" }),
      send(anna, locked, "too early"),
    ]);
    const frame = await socket.waitFor(({ id }) => id === "early");
    return { refusals, frame, took: await undisturbed, health, watch: await watch };
  });
  expect(result.refusals.map(({ status }) => status)).toEqual(result.refusals.map(() => 503));
  for (const { headers, body } of result.refusals) {
    expect(Number(headers.get("retry-after"))).toBeGreaterThan(0);
    expect(body).toMatchObject({ code: "overloaded", type: "/problems/overloaded" });
  }
  expect(result.frame).toMatchObject({ type: "error", code: "overloaded", temporary: true });
  expect(result.frame.retry_after_ms).toBeGreaterThan(0);
  expect(Math.max(...result.took)).toBeLessThan(UNDISTURBED_MS);
  expect(Math.max(...result.health)).toBeLessThan(UNDISTURBED_MS);
  // The model ended long ago; its answer is stored now, by the one who wrote it.
  await asking.until(
    async () => ((await anna.get<Message>(answer)).body.status === "complete" ? true : undefined),
    10_000,
  );
  const [row] = await parley.database<{ fence: number }[]>`
    select fence from generations where message_id = ${answered.body.reply?.id ?? ""}`;
  expect(row?.fence).toBe(1);
  expect((await anna.ask("PATCH", `/conversations/${locked}`, { title: "free" })).status).toBe(200);
  expect((await send(anna, locked, "again")).status).toBe(201);
}, 90_000);

test("an answer that ends in it delays the ends of no others", async () => {
  const { provider } = asking;
  provider.script("one", { text: "Short." });
  const other = (await createConversation(asking.parley, ben.account)).id;
  const held = await send(anna, locked, "Talk.", { reply: false });
  const { elsewhere } = await whileLocked(3_000, LOCK_CONVERSATION, locked, async () => {
    const late = anna.ask("POST", `/conversations/${locked}/messages/${held.body.message.id}/regenerate`);
    const startedAtMs = performance.now();
    await asking.say(ben.account, other, "And you?");
    return { elsewhere: performance.now() - startedAtMs, late };
  });
  expect(elsewhere).toBeLessThan(UNDISTURBED_MS);
}, 30_000);

test("one item that cannot be stored fails alone, and delays none of its batch", async () => {
  const { parley } = asking;
  await parley.database`
    create function refuse_impossible() returns trigger language plpgsql as $$
    begin
      if new.content = 'impossible' then raise exception 'impossible'; end if;
      return new;
    end $$`;
  await parley.database`
    create trigger refuse_impossible before insert on messages for each row execute function refuse_impossible()`;
  const contents = Array.from({ length: 60 }, (_, n) => (n === 23 ? "impossible" : `together ${n}`));
  const frames = await Promise.all(
    contents.map((content, n) =>
      socket.ask({
        type: "message.send",
        id: `i${n}`,
        conversation_id: locked,
        client_message_id: `i${n}`,
        content,
        reply: false,
      }),
    ),
  );
  expect(frames.flatMap(({ type }, n) => (type === "ack" ? [] : [n]))).toEqual([23]);
  expect(frames[23]).toMatchObject({ type: "error", code: "internal" });
  await parley.database`drop trigger refuse_impossible on messages`;
});

test("a budget that is locked delays only those who pay from it", async () => {
  const paying = await startAsking({ BUDGET_USER_TOKENS_PER_DAY: "1000000" });
  try {
    const { parley } = paying;
    const [one, two] = [await parley.register(), await parley.register()];
    const [first, second] = [await createConversation(parley, one), await createConversation(parley, two)];
    await paying.say(one, first.id, "A window is made.");
    await paying.say(two, second.id, "Another one.");
    let late: Promise<unknown> | undefined;
    let tookMs = 0;
    await parley.database.begin(async (sql) => {
      await sql`select 1 from budget_windows where scope_id = ${one.user.id} for update`;
      late = paying.say(one, first.id, "Waits.");
      await Bun.sleep(100);
      const startedAtMs = performance.now();
      await paying.say(two, second.id, "Does not.");
      tookMs = performance.now() - startedAtMs;
      await Bun.sleep(2_000);
    });
    expect(tookMs).toBeLessThan(UNDISTURBED_MS);
    expect(await late).toMatchObject({ reply: { status: "complete" } });
  } finally {
    await paying.stop();
  }
}, 30_000);
