import { afterAll, beforeAll, expect, test } from "bun:test";
import type { SentMessage } from "../../src/modules/messages/model.ts";
import type { Message } from "../../src/protocol/message.ts";
import { type ModelApp, startModelApp } from "../generations/start-model-app.ts";
import { createConversation } from "../support/conversation.ts";
import { createRest, type Rest } from "../support/rest.ts";
import { isSoak } from "../support/soak.ts";
import { openSocket, type TestSocket } from "../support/socket.ts";
import { expectUndisturbed, LOCK_CONVERSATIONS, measure, whileLocked } from "./bystanders.ts";

/** Longer than requests wait for a lock (LANE_TIMEOUT_MS), and than the lease of an answer. */
const MEASURED_MS = 14_000;
const HELD_MS = isSoak ? 40_000 : MEASURED_MS + 500;

let asking: ModelApp;
let anna: Rest;
let ben: Rest;
let socket: TestSocket;
let locked: string;
let free: string;

beforeAll(async () => {
  asking = await startModelApp();
  const { parley } = asking;
  anna = createRest(parley, await parley.register(undefined, "Anna"));
  ben = createRest(parley, await parley.register(undefined, "Ben"));
  socket = await openSocket(parley.url, { token: anna.account.access_token });
  locked = (await createConversation(parley, anna.account)).id;
  free = (await createConversation(parley, ben.account)).id;
  // Warms up connections and plans.
  await measure(300, sendElsewhere);
});
afterAll(() => asking.stop());

const lock = <T>(ids: string[], work: () => Promise<T>) =>
  whileLocked(asking.parley.database, LOCK_CONVERSATIONS, [ids], work);

const send = (rest: Rest, id: string, content: string, more: Record<string, unknown> = {}) =>
  rest.request<SentMessage>("POST", `/conversations/${id}/messages`, { content, reply: false, ...more });

async function sendElsewhere(): Promise<void> {
  expect((await send(ben, free, "hello")).status).toBe(201);
}

const listContents = async (id: string) =>
  (await anna.get<{ data: Message[] }>(`/conversations/${id}/messages?limit=200`)).body.data.map(
    ({ content }) => content,
  );

test("for 4 s delays no one else; messages sent to it are stored in order afterwards", async () => {
  const sent = Array.from({ length: 20 }, (_, n) => `${n}`);
  const { acks, took } = await lock([locked], async () => {
    const acks = sent.map((content, n) =>
      socket.request({
        type: "message.send",
        id: `l${n}`,
        conversation_id: locked,
        client_message_id: `l${n}`,
        content,
        reply: false,
      }),
    );
    return { acks, took: await measure(4_000, sendElsewhere) };
  });
  expectUndisturbed(took);
  const startedAtMs = performance.now();
  expect((await Promise.all(acks)).map(({ type }) => type)).toEqual(sent.map(() => "ack"));
  expect(performance.now() - startedAtMs).toBeLessThan(1_000);
  expect(await listContents(locked)).toEqual(sent);
}, 30_000);

test("for longer than the lock timeout: sends, changes and stops are refused temporarily; answers are stored afterwards; health checks pass", async () => {
  const { parley, provider } = asking;
  provider.script("one", { pieces: Array.from({ length: 20 }, (_, n) => `w${n} `), pieceDelayMs: 50 });
  const answered = await send(anna, locked, "Talk.", { reply: true });
  const answer = `/conversations/${locked}/messages/${answered.body.reply?.id}`;
  const result = await lock([locked], async () => {
    const undisturbed = measure(MEASURED_MS, sendElsewhere);
    const health = measure(MEASURED_MS, async () => expect((await fetch(`${parley.url}/readyz`)).status).toBe(200), 50);
    socket.send({
      type: "message.send",
      id: "early",
      conversation_id: locked,
      client_message_id: "early",
      content: "too early as well",
      reply: false,
    });
    const refusals = await Promise.all([
      ...Array.from({ length: 15 }, (_, n) => anna.request("PATCH", `/conversations/${locked}`, { title: `${n}` })),
      anna.request("PATCH", `/conversations/${locked}/messages/${answered.body.message.id}`, { content: "edited" }),
      send(anna, locked, "too early"),
    ]);
    const frame = await socket.waitFor(({ id }) => id === "early");
    const times = { took: await undisturbed, health: await health };
    await Bun.sleep(HELD_MS - MEASURED_MS);
    return { refusals, frame, ...times };
  });
  expect(result.refusals.map(({ status }) => status)).toEqual(result.refusals.map(() => 503));
  for (const { headers, body } of result.refusals) {
    expect(Number(headers.get("retry-after"))).toBeGreaterThan(0);
    expect(body).toMatchObject({ code: "overloaded", type: "/problems/overloaded" });
  }
  expect(result.frame).toMatchObject({ type: "error", code: "overloaded", temporary: true });
  expect(result.frame.retry_after_ms).toBeGreaterThan(0);
  expectUndisturbed(result.took);
  expectUndisturbed(result.health);
  // The model ended long ago; its answer is stored now, by the instance that wrote it.
  await asking.waitUntil(
    async () => ((await anna.get<Message>(answer)).body.status === "complete" ? true : undefined),
    10_000,
  );
  const [row] = await parley.database<{ fence: number }[]>`
    select fence from generations where message_id = ${answered.body.reply?.id ?? ""}`;
  expect(row?.fence).toBe(1);
  expect((await anna.request("PATCH", `/conversations/${locked}`, { title: "free" })).status).toBe(200);
  expect((await send(anna, locked, "again")).status).toBe(201);
}, 90_000);

test.each([
  ["an answer that ends in it", LOCK_CONVERSATIONS, (_: string) => [[locked]]],
  [
    "an answer whose generation is locked by an unfinished stop",
    "update generations set cancel_requested_at = now() where id = $1",
    (id: string) => [id],
  ],
])(
  "%s does not delay the ends of others",
  async (_, statement, parametersOf) => {
    const { parley, provider } = asking;
    provider.script(
      "one",
      { pieces: Array.from({ length: 10 }, (_, n) => `w${n} `), pieceDelayMs: 50 },
      { text: "Short." },
    );
    const other = (await createConversation(parley, ben.account)).id;
    const { body } = await send(anna, locked, "Talk.", { reply: true });
    const answerId = body.reply?.id ?? "";
    const find = async () => {
      const [row] = await parley.database<{ id: string; status: string; fence: number }[]>`
      select id, status, fence from generations where message_id = ${answerId}`;
      return row;
    };
    await asking.waitUntil(() => (provider.requestsOf("one").length > 0 ? true : undefined));
    const running = await find();
    expect(running?.status).toBe("running");
    const took = await whileLocked(parley.database, statement, parametersOf(running?.id ?? ""), async () => {
      const took = await measure(3_000, () => asking.say(ben.account, other, "And you?"));
      // It has ended, but can't be stored yet.
      expect((await find())?.status).toBe("running");
      return took;
    });
    expectUndisturbed(took);
    await asking.waitUntil(async () => ((await find())?.status === "finished" ? true : undefined));
    expect((await find())?.fence).toBe(1);
  },
  30_000,
);

test("many locked conversations do not block one that is locked briefly", async () => {
  const { parley } = asking;
  const ids = await Promise.all(
    Array.from({ length: 12 }, async () => (await createConversation(parley, anna.account)).id),
  );
  const { took, late } = await lock(ids, async () => {
    const late = ids.map((id) => send(anna, id, "Waits."));
    let isOver = false;
    const locker = (async () => {
      while (!isOver) {
        await lock([free], () => Bun.sleep(5));
        await Bun.sleep(10);
      }
    })();
    const took = await measure(5_000, sendElsewhere);
    isOver = true;
    await locker;
    return { took, late };
  });
  expectUndisturbed(took);
  expect((await Promise.all(late)).map(({ status }) => status)).toEqual(ids.map(() => 201));
}, 30_000);

test("an item that can't be stored fails alone, without delaying its batch", async () => {
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
      socket.request({
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

test("a locked sender delays no one else, not even in the same group", async () => {
  const { parley } = asking;
  const cleo = createRest(parley, await parley.register(undefined, "Cleo"));
  const group = (await createConversation(parley, ben.account, [cleo.account])).id;
  const { took, late } = await whileLocked(
    parley.database,
    "select 1 from users where id = $1 for update",
    [cleo.id],
    async () => {
      const late = send(cleo, group, "Waits.");
      const both = await Promise.all([measure(3_000, sendElsewhere), measure(3_000, () => send(ben, group, "Goes."))]);
      return { took: both.flat(), late };
    },
  );
  expectUndisturbed(took);
  expect((await late).status).toBe(201);
}, 30_000);
