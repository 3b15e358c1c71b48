import { afterAll, beforeAll, expect, test } from "bun:test";
import type { SentMessage } from "../../src/modules/messages/model.ts";
import type { Message } from "../../src/protocol/message.ts";
import { type ModelApp, startModelApp } from "../generations/start-model-app.ts";
import { createConversation } from "../support/conversation.ts";
import { createRestClient, type RestClient } from "../support/rest.ts";
import { isSoakRun } from "../support/soak.ts";
import { openSocket, type TestSocket } from "../support/socket.ts";
import { expectUndisturbed, LOCK_CONVERSATIONS, measureDurations, whileLocked } from "./row-locks.ts";

/** Longer than both the lock timeout of requests (LANE_TIMEOUT_MS) and an answer's lease. */
const MEASURED_MS = 14_000;
const LOCKED_MS = isSoakRun ? 40_000 : MEASURED_MS + 500;

let app: ModelApp;
let anna: RestClient;
let ben: RestClient;
let socket: TestSocket;
let lockedId: string;
let freeId: string;

beforeAll(async () => {
  app = await startModelApp();
  const { parley } = app;
  anna = createRestClient(parley, await parley.register(undefined, "Anna"));
  ben = createRestClient(parley, await parley.register(undefined, "Ben"));
  socket = await openSocket(parley.url, { token: anna.account.access_token });
  lockedId = (await createConversation(parley, anna.account)).id;
  freeId = (await createConversation(parley, ben.account)).id;
  // Warms up connections and plans.
  await measureDurations(300, sendElsewhere);
});
afterAll(() => app.stop());

const whileConversationsLocked = <T>(ids: string[], work: () => Promise<T>) =>
  whileLocked(app.parley.database, LOCK_CONVERSATIONS, [ids], work);

const postMessage = (rest: RestClient, id: string, content: string, fields: Record<string, unknown> = {}) =>
  rest.request<SentMessage>("POST", `/conversations/${id}/messages`, { content, reply: false, ...fields });

async function sendElsewhere(): Promise<void> {
  expect((await postMessage(ben, freeId, "hello")).status).toBe(201);
}

const listContents = async (id: string) =>
  (await anna.get<{ data: Message[] }>(`/conversations/${id}/messages?limit=200`)).body.data.map(
    ({ content }) => content,
  );

test("a conversation locked for 4 s delays no other conversation, and its pending messages are stored in order afterwards", async () => {
  const sentContents = Array.from({ length: 20 }, (_, n) => `${n}`);
  const { acks, durationsMs } = await whileConversationsLocked([lockedId], async () => {
    const acks = sentContents.map((content, n) =>
      socket.request({
        type: "message.send",
        id: `l${n}`,
        conversation_id: lockedId,
        client_message_id: `l${n}`,
        content,
        reply: false,
      }),
    );
    return { acks, durationsMs: await measureDurations(4_000, sendElsewhere) };
  });
  expectUndisturbed(durationsMs);
  const startedAtMs = performance.now();
  expect((await Promise.all(acks)).map(({ type }) => type)).toEqual(sentContents.map(() => "ack"));
  expect(performance.now() - startedAtMs).toBeLessThan(1_000);
  expect(await listContents(lockedId)).toEqual(sentContents);
}, 30_000);

test("a conversation that is locked longer than the lock timeout rejects changes temporarily, and its answer is stored afterwards", async () => {
  const { parley, provider } = app;
  provider.script("one", { pieces: Array.from({ length: 20 }, (_, n) => `w${n} `), pieceDelayMs: 50 });
  const question = await postMessage(anna, lockedId, "Talk.", { reply: true });
  const answerPath = `/conversations/${lockedId}/messages/${question.body.reply?.id}`;
  const outcome = await whileConversationsLocked([lockedId], async () => {
    const pendingSendDurations = measureDurations(MEASURED_MS, sendElsewhere);
    const pendingHealthDurations = measureDurations(
      MEASURED_MS,
      async () => expect((await fetch(`${parley.url}/readyz`)).status).toBe(200),
      50,
    );
    socket.send({
      type: "message.send",
      id: "early",
      conversation_id: lockedId,
      client_message_id: "early",
      content: "too early over the socket",
      reply: false,
    });
    const rejections = await Promise.all([
      ...Array.from({ length: 15 }, (_, n) => anna.request("PATCH", `/conversations/${lockedId}`, { title: `${n}` })),
      anna.request("PATCH", `/conversations/${lockedId}/messages/${question.body.message.id}`, { content: "edited" }),
      postMessage(anna, lockedId, "too early"),
    ]);
    const frame = await socket.waitFor(({ id }) => id === "early");
    const measurements = {
      sendDurationsMs: await pendingSendDurations,
      healthDurationsMs: await pendingHealthDurations,
    };
    await Bun.sleep(LOCKED_MS - MEASURED_MS);
    return { rejections, frame, ...measurements };
  });
  expect(outcome.rejections.map(({ status }) => status)).toEqual(outcome.rejections.map(() => 503));
  for (const { headers, body } of outcome.rejections) {
    expect(Number(headers.get("retry-after"))).toBeGreaterThan(0);
    expect(body).toMatchObject({ code: "overloaded", type: "/problems/overloaded" });
  }
  expect(outcome.frame).toMatchObject({ type: "error", code: "overloaded", temporary: true });
  expect(outcome.frame.retry_after_ms).toBeGreaterThan(0);
  expectUndisturbed(outcome.sendDurationsMs);
  expectUndisturbed(outcome.healthDurationsMs);
  // The model finished long ago. The instance that generated the answer stores it now.
  await app.waitForValue(
    async () => ((await anna.get<Message>(answerPath)).body.status === "complete" ? true : undefined),
    10_000,
  );
  const [row] = await parley.database<{ fence: number }[]>`
    select fence from generations where message_id = ${question.body.reply?.id ?? ""}`;
  expect(row?.fence).toBe(1);
  expect((await anna.request("PATCH", `/conversations/${lockedId}`, { title: "free" })).status).toBe(200);
  expect((await postMessage(anna, lockedId, "again")).status).toBe(201);
}, 90_000);

test.each([
  ["an answer that finishes in a locked conversation", LOCK_CONVERSATIONS, (_: string) => [[lockedId]]],
  [
    "an answer whose generation is locked by an unfinished stop",
    "update generations set cancel_requested_at = now() where id = $1",
    (id: string) => [id],
  ],
])(
  "%s does not delay other answers",
  async (_, statement, createParameters) => {
    const { parley, provider } = app;
    provider.script(
      "one",
      { pieces: Array.from({ length: 10 }, (_, n) => `w${n} `), pieceDelayMs: 50 },
      { text: "Short." },
    );
    const otherConversationId = (await createConversation(parley, ben.account)).id;
    const { body } = await postMessage(anna, lockedId, "Talk.", { reply: true });
    const answerId = body.reply?.id ?? "";
    const findGeneration = async () => {
      const [row] = await parley.database<{ id: string; status: string; fence: number }[]>`
      select id, status, fence from generations where message_id = ${answerId}`;
      return row;
    };
    await app.waitForValue(() => (provider.listRequests("one").length > 0 ? true : undefined));
    const generation = await findGeneration();
    expect(generation?.status).toBe("running");
    const durationsMs = await whileLocked(
      parley.database,
      statement,
      createParameters(generation?.id ?? ""),
      async () => {
        const durationsMs = await measureDurations(3_000, () =>
          app.sendMessage(ben.account, otherConversationId, "And you?"),
        );
        // The answer is finished, but can't be stored yet.
        expect((await findGeneration())?.status).toBe("running");
        return durationsMs;
      },
    );
    expectUndisturbed(durationsMs);
    await app.waitForValue(async () => ((await findGeneration())?.status === "finished" ? true : undefined));
    expect((await findGeneration())?.fence).toBe(1);
  },
  30_000,
);

test("many locked conversations do not delay a conversation that is repeatedly locked for short periods", async () => {
  const { parley } = app;
  const ids = await Promise.all(
    Array.from({ length: 12 }, async () => (await createConversation(parley, anna.account)).id),
  );
  const { durationsMs, pendingSends } = await whileConversationsLocked(ids, async () => {
    const pendingSends = ids.map((id) => postMessage(anna, id, "Waits."));
    let isFinished = false;
    const locker = (async () => {
      while (!isFinished) {
        await whileConversationsLocked([freeId], () => Bun.sleep(5));
        await Bun.sleep(10);
      }
    })();
    const durationsMs = await measureDurations(5_000, sendElsewhere);
    isFinished = true;
    await locker;
    return { durationsMs, pendingSends };
  });
  expectUndisturbed(durationsMs);
  expect((await Promise.all(pendingSends)).map(({ status }) => status)).toEqual(ids.map(() => 201));
}, 30_000);

test("a message that can't be stored fails alone, without failing the rest of its batch", async () => {
  const { parley } = app;
  await parley.database`
    create function reject_impossible() returns trigger language plpgsql as $$
    begin
      if new.content = 'impossible' then raise exception 'impossible'; end if;
      return new;
    end $$`;
  await parley.database`
    create trigger reject_impossible before insert on messages for each row execute function reject_impossible()`;
  const contents = Array.from({ length: 60 }, (_, n) => (n === 23 ? "impossible" : `together ${n}`));
  const frames = await Promise.all(
    contents.map((content, n) =>
      socket.request({
        type: "message.send",
        id: `i${n}`,
        conversation_id: lockedId,
        client_message_id: `i${n}`,
        content,
        reply: false,
      }),
    ),
  );
  expect(frames.flatMap(({ type }, n) => (type === "ack" ? [] : [n]))).toEqual([23]);
  expect(frames[23]).toMatchObject({ type: "error", code: "internal" });
  await parley.database`drop trigger reject_impossible on messages`;
});

test("a locked sender delays no other user, even in the same group", async () => {
  const { parley } = app;
  const cleo = createRestClient(parley, await parley.register(undefined, "Cleo"));
  const groupId = (await createConversation(parley, ben.account, [cleo.account])).id;
  const { durationsMs, pendingSend } = await whileLocked(
    parley.database,
    "select 1 from users where id = $1 for update",
    [cleo.id],
    async () => {
      const pendingSend = postMessage(cleo, groupId, "Waits.");
      const durations = await Promise.all([
        measureDurations(3_000, sendElsewhere),
        measureDurations(3_000, () => postMessage(ben, groupId, "Doesn't wait.")),
      ]);
      return { durationsMs: durations.flat(), pendingSend };
    },
  );
  expectUndisturbed(durationsMs);
  expect((await pendingSend).status).toBe(201);
}, 30_000);
