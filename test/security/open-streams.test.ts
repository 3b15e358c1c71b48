import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { scopes } from "../../src/access/scopes.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { linkBuses } from "../support/linked-buses.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { createRest, type Rest } from "../support/rest.ts";
import { waitUntil } from "../support/wait-until.ts";
import { listOperations, type Operation } from "./catalogue.ts";
import { openers, type StreamEnd } from "./hold-stream.ts";
import { planRequest } from "./requests.ts";
import type { World } from "./world.ts";

/** The contract's limit, on every instance. */
const ENDED_WITHIN_MS = 2_000;
/** The additional time of a database check on a busy machine, if no message arrives. */
const BUSY_MS = 1_500;
/** Models that don't end: of conversations, and of `/v1`. */
const TALK = "compatible/talk";
const COMPLETION = "compatible/completion";
/** A user's text, which stays in the server when a reader reads nothing. */
const LARGE_MESSAGES = 40;
const LARGE_CHARS = 190_000;

let provider: MockProvider;
let database: Awaited<ReturnType<typeof createTestDatabase>>;
let link: ReturnType<typeof linkBuses>;
let here: TestApp;
let there: TestApp;
let administrator: Rest;
let operations: Operation[];
let slowestMs = 0;

beforeAll(async () => {
  provider = startMockProvider();
  for (const model of ["talk", "completion"])
    provider.script(model, { pieces: Array(3_000).fill("word "), pieceDelayMs: 200 });
  database = await createTestDatabase(30);
  link = linkBuses();
  const config = {
    COMPATIBLE_BASE_URL: provider.openaiUrl,
    AI_MODELS: `${TALK},${COMPLETION}`,
    AI_MAX_RETRIES: "0",
    RATE_LIMIT_ENABLED: "false",
    BUDGET_ANSWER_TOKENS: "100",
    BUDGET_USER_TOKENS_PER_DAY: "1000000",
  };
  [here, there] = await Promise.all([
    startApp({ database, config, bus: link.buses[0] }),
    startApp({ database, config, bus: link.buses[1] }),
  ]);
  const account = await here.register();
  await here.database`update users set role = 'admin' where id = ${account.user.id}`;
  administrator = createRest(here, account);
  operations = (await listOperations(here)).filter(({ streams }) => streams.length > 0);
}, 60_000);
afterAll(async () => {
  await Promise.all([here.stop(), there.stop()]);
  await provider.stop();
  await database.database.end({ timeout: 1 });
});

/** A user who opens streams: a member of another user's conversation, with many messages. */
type Victim = {
  account: Account;
  owner: Rest;
  rest: Rest;
  conversationId: string;
  keyId: string;
  keyEndsAtMs: number;
  token: string;
};

async function createVictim({ isKey, keyLastsMs }: { isKey: boolean; keyLastsMs?: number }): Promise<Victim> {
  const [owner, account] = await Promise.all([here.register(), here.register()]);
  const { id: conversationId } = await createConversation(here, owner, [account]);
  const rest = createRest(here, account);
  for (let sent = 0; sent < LARGE_MESSAGES; sent += 1) {
    // Each of them is two characters in JSON.
    const content = '"'.repeat(LARGE_CHARS);
    const { status } = await rest.request("POST", `/conversations/${conversationId}/messages`, {
      content,
      reply: false,
    });
    if (status !== 201) throw new Error(`message: ${status}`);
  }
  const victim = { account, rest, owner: createRest(here, owner), conversationId };
  const keyEndsAtMs = Date.now() + (keyLastsMs ?? Number.POSITIVE_INFINITY);
  if (!isKey) return { ...victim, keyId: "", keyEndsAtMs, token: account.access_token };
  const expiry = keyLastsMs === undefined ? {} : { expires_at: new Date(keyEndsAtMs).toISOString() };
  const json = { name: "of the suite", scopes: scopes.filter((scope) => scope !== "admin"), ...expiry };
  const created = await rest.request<{ id: string; key: string }>("POST", "/api-keys", json);
  if (created.status !== 201) throw new Error(`key: ${created.status}`);
  return { ...victim, keyId: created.body.id, keyEndsAtMs, token: created.body.key };
}

/** The victim's request of an operation; of the resources it names, only the conversation must exist. */
async function plan(operation: Operation, { rest, conversationId }: Victim) {
  const sent = await rest.request<{ message: { id: string } }>("POST", `/conversations/${conversationId}/messages`, {
    content: "A question",
    reply: false,
  });
  const world = {
    word: "word",
    places: { "conversations/{id}": conversationId, "messages/{message_id}": sent.body.message.id },
    fields: {
      conversation_id: conversationId,
      parent_id: null,
      metadata: { conversation_id: conversationId },
      model: TALK,
      reply: true,
    },
  } as unknown as World;
  const request = planRequest(operation, world);
  if (request.json !== undefined && operation.path.startsWith("/v1/"))
    request.json = { ...(request.json as object), model: COMPLETION };
  if (operation.id === "exportConversation") request.path += "?format=json";
  const isOfConversation = JSON.stringify(request).includes(conversationId);
  return { request, isOfConversation };
}

type Way = {
  isKey: boolean;
  keyLastsMs?: number;
  /** Ends only streams of the conversation. */
  isOfConversation?: boolean;
  take(victim: Victim): Promise<unknown>;
};

const wanted = async (answer: Promise<{ status: number; body: unknown }>) => {
  const { status, body } = await answer;
  if (status >= 300) throw new Error(`${status} ${JSON.stringify(body)}`);
};

/** Long enough to open all of them. */
const KEY_LASTS_MS = 6_000;
/** How the access of a caller ends. */
const ways: Record<string, Way> = {
  "its key is deleted": {
    isKey: true,
    take: ({ rest, keyId }) => wanted(rest.request("DELETE", `/api-keys/${keyId}`)),
  },
  "its key expires": {
    isKey: true,
    keyLastsMs: KEY_LASTS_MS,
    // Expiry is not announced.
    take: ({ keyEndsAtMs }) => Bun.sleep(keyEndsAtMs - Date.now()),
  },
  "its session is ended": {
    isKey: false,
    take: ({ account }) => here.fetch("/api/v1/auth/logout", { json: { refresh_token: account.refresh_token } }),
  },
  "its user is disabled": {
    isKey: true,
    take: ({ account }) => wanted(administrator.request("PATCH", `/users/${account.user.id}`, { disabled: true })),
  },
  "its user, with a session, is deleted": {
    isKey: false,
    take: ({ account }) => wanted(administrator.request("DELETE", `/users/${account.user.id}`)),
  },
  "its user deletes the account": {
    isKey: false,
    take: ({ rest }) => wanted(rest.request("DELETE", "/me")),
  },
  "its member is removed": {
    isKey: true,
    isOfConversation: true,
    take: ({ owner, conversationId, account }) =>
      wanted(owner.request("DELETE", `/conversations/${conversationId}/members/${account.user.id}`)),
  },
  "its conversation is deleted": {
    isKey: false,
    isOfConversation: true,
    take: ({ owner, conversationId }) => wanted(owner.request("DELETE", `/conversations/${conversationId}`)),
  },
};

/** What is wrong with the end of a stream; an empty list is expected. */
function judge(kind: string, { path }: Operation, { status, text, isWhole }: StreamEnd, way: Way): string[] {
  const isOpenAi = path.startsWith("/v1/");
  const refusals = way.isOfConversation ? [403, 404] : [401];
  const summary = `${kind} of ${path}: ${status} ${text.slice(-300)}`;
  switch (kind) {
    case "events": {
      const isRight = isOpenAi
        ? /data: \{"error":\{"message":"[^"]+","type":"\w+","param":null,"code":"\w+"\}\}/.test(text) &&
          !text.includes("[DONE]")
        : // The answer of a disabled or deleted user is stopped as well, and may be reported first.
          /event: (?:error|member\.removed|conversation\.deleted|message\.completed)\ndata: \{/.test(text);
      return isRight && isWhole ? [] : [summary];
    }
    case "download":
      return isWhole ? [summary] : [];
    default:
      return refusals.includes(status) && (isOpenAi ? text.includes('{"error":{') : text.includes('"code":"'))
        ? []
        : [summary];
  }
}

type Case = { operation: Operation; kind: string };

const listCases = ({ isKey }: Way): Case[] =>
  operations
    .filter(({ scope }) => !isKey || scope !== "session")
    .flatMap((operation) => operation.streams.map((kind) => ({ operation, kind })));

/** Opens all streams on one instance, revokes the access on another, and waits for the ends. */
async function attack(
  name: string,
  way: Way,
  site: TestApp,
  withinMs: number,
): Promise<{ faults: string[]; count: number }> {
  const victim = await createVictim(way);
  const headers = { authorization: `Bearer ${victim.token}` };
  const planned = await Promise.all(
    listCases(way).map(async (one) => ({ ...one, ...(await plan(one.operation, victim)) })),
  );
  const meant = planned.filter(({ isOfConversation }) => isOfConversation || !way.isOfConversation);
  const held = await Promise.all(
    meant.map(async ({ operation, kind, request }) => {
      const open = openers[kind];
      if (!open) throw new Error(`hold-stream.ts can't keep ${operation.name} open (${kind}).`);
      const summary = `when ${name}, ${kind} of ${operation.name}`;
      try {
        return { summary, operation, kind, stream: await open(site, request, headers) };
      } catch (error) {
        return { summary, operation, kind, error };
      }
    }),
  );
  await way.take(victim);
  const endedAtMs = performance.now();
  const faults = await Promise.all(
    held.map(async ({ summary, operation, kind, stream, error }) => {
      if (!stream) return [`${summary}: ${error}`];
      if (kind === "download") {
        await Bun.sleep(ENDED_WITHIN_MS);
        stream.resume();
      }
      const end = await Promise.race([stream.ended, Bun.sleep(2 * ENDED_WITHIN_MS).then(() => null)]);
      const tookMs = Math.round(performance.now() - endedAtMs);
      stream.close();
      if (!end) return [`${summary} continues`];
      slowestMs = Math.max(slowestMs, kind === "download" ? 0 : tookMs);
      const isLate = kind !== "download" && tookMs > withinMs;
      const wrong = judge(kind, operation, end, way).map((fault) => `${summary} ended as ${fault}`);
      return [...wrong, ...(isLate ? [`${summary} took ${tookMs} ms`] : [])];
    }),
  );
  return { faults: faults.flat(), count: held.length };
}

/** In all of these ways, most of them concurrently. */
async function attackAll(names: readonly string[], site: TestApp, withinMs = ENDED_WITHIN_MS): Promise<string[]> {
  provider.requests.length = 0;
  slowestMs = 0;
  const run = (isExpiring: boolean) =>
    Promise.all(
      names
        .flatMap((name) => ({ name, way: ways[name] as Way }))
        .filter(({ way }) => (way.keyLastsMs !== undefined) === isExpiring)
        .map(({ name, way }) => attack(name, way, site, withinMs)),
    );
  // Streams with a fixed expiry must be open by then, so nothing else keeps the machine busy.
  const results = [...(await run(false)), ...(await run(true))];
  const count = results.reduce((sum, one) => sum + one.count, 0);
  console.log(
    `open streams: ${count} cases of ${operations.length} operations, the slowest ended after ${slowestMs} ms`,
  );
  expect(count).toBeGreaterThanOrEqual(5 * names.length);
  return [...results.flatMap(({ faults }) => faults), ...(await listUnreleased())];
}

test("the document names the operations that stay open, by kind", () => {
  expect([...new Set(operations.flatMap(({ streams }) => streams))].sort()).toEqual(Object.keys(openers).sort());
  expect(operations.map(({ id }) => id)).toContain("createChatCompletion");
});

describe("open streams end within 2 s after their access ends", () => {
  test("on the instance where the access ends", async () => {
    expect(await attackAll(Object.keys(ways), here)).toEqual([]);
  }, 60_000);

  test("on another instance", async () => {
    expect(await attackAll(Object.keys(ways), there)).toEqual([]);
  }, 60_000);

  test("on another instance, if the bus loses the message", async () => {
    link.cut();
    const names = ["its key is deleted", "its key expires", "its session is ended", "its user is disabled"];
    expect(await attackAll(names, there, ENDED_WITHIN_MS + BUSY_MS)).toEqual([]);
    link.restore();
  }, 60_000);

  test("also if a user was deleted meanwhile, as soon as the bus reports a gap", async () => {
    const victim = await createVictim({ isKey: false });
    const feed = operations.find(({ id }) => id === "listEvents") as Operation;
    const { request } = await plan(feed, victim);
    link.cut();
    const stream = await (openers.events as NonNullable<typeof openers.events>)(there, request, {
      authorization: `Bearer ${victim.token}`,
    });
    await wanted(administrator.request("DELETE", `/users/${victim.account.user.id}`));
    await waitUntil(
      async () => (await here.database`select 1 from sessions where user_id = ${victim.rest.id}`).length === 0,
    );
    link.restore();
    const end = await Promise.race([stream.ended, Bun.sleep(ENDED_WITHIN_MS).then(() => null)]);
    stream.close();
    expect(end?.text).toMatch(/event: (?:error|member\.removed)/);
  }, 30_000);
});

/**
 * Completions are aborted at their provider, and nothing stays reserved for them. Answers in conversations continue, because
 * their messages belong to all members.
 */
async function listUnreleased(): Promise<string[]> {
  const completionRequests = provider.requestsOf("completion");
  const listReserved = () => here.database`select id from budget_reservations where owner is not null`;
  const look = async () => [
    ...(completionRequests.length > 1 ? [] : ["no completion was requested"]),
    ...completionRequests.filter(({ aborted }) => !aborted).map(() => "a provider's call continues"),
    ...(await listReserved()).map(() => "a reservation is left"),
  ];
  await waitUntil(async () => (await look()).length === 0, ENDED_WITHIN_MS).catch(() => {});
  return look();
}
