import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { scopes } from "../../src/access/scopes.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { createLinkedBuses } from "../support/linked-buses.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { createRestClient, type RestClient } from "../support/rest.ts";
import { waitUntil } from "../support/wait-until.ts";
import { listOperations, type Operation } from "./catalog.ts";
import { planRequest } from "./requests.ts";
import { type StreamEnd, streamOpeners } from "./stream-openers.ts";
import type { UserData } from "./user-data.ts";

/** The contract's maximum delay, which applies on every instance. */
const END_DELAY_MS_MAX = 2_000;
/** Additional delay, on a busy machine, if the bus loses the message and the streams are closed only after a database check. */
const DATABASE_CHECK_MS = 1_500;
/** Models that answer for longer than the tests run, in conversations and on `/v1`. */
const CHAT_MODEL = "compatible/talk";
const COMPLETION_MODEL = "compatible/completion";
/** Together, the messages overflow the buffers between the server and a client that has stopped reading. */
const LARGE_MESSAGES = 40;
const LARGE_MESSAGE_CHARS = 190_000;

let provider: MockProvider;
let database: Awaited<ReturnType<typeof createTestDatabase>>;
let link: ReturnType<typeof createLinkedBuses>;
let instance: TestApp;
let otherInstance: TestApp;
let administrator: RestClient;
let operations: Operation[];
let slowestMs = 0;

beforeAll(async () => {
  provider = startMockProvider();
  for (const model of ["talk", "completion"])
    provider.script(model, { pieces: Array(3_000).fill("word "), pieceDelayMs: 200 });
  database = await createTestDatabase(30);
  link = createLinkedBuses();
  const config = {
    COMPATIBLE_BASE_URL: provider.openaiUrl,
    AI_MODELS: `${CHAT_MODEL},${COMPLETION_MODEL}`,
    AI_MAX_RETRIES: "0",
    RATE_LIMIT_ENABLED: "false",
    BUDGET_ANSWER_TOKENS: "100",
    BUDGET_USER_TOKENS_PER_DAY: "1000000",
  };
  [instance, otherInstance] = await Promise.all([
    startApp({ database, config, bus: link.buses[0] }),
    startApp({ database, config, bus: link.buses[1] }),
  ]);
  const account = await instance.register();
  await instance.database`update users set role = 'admin' where id = ${account.user.id}`;
  administrator = createRestClient(instance, account);
  operations = (await listOperations(instance)).filter(({ streams }) => streams.length > 0);
}, 60_000);
afterAll(async () => {
  await Promise.all([instance.stop(), otherInstance.stop()]);
  await provider.stop();
  await database.database.end({ timeout: 1 });
});

/** A user who opens streams, and who is a member of another user's conversation. */
type StreamUser = {
  account: Account;
  owner: RestClient;
  rest: RestClient;
  conversationId: string;
  keyId: string;
  keyExpiresAtMs: number;
  token: string;
};

async function createStreamUser({
  usesApiKey,
  keyLifetimeMs,
}: {
  usesApiKey: boolean;
  keyLifetimeMs?: number;
}): Promise<StreamUser> {
  const [owner, account] = await Promise.all([instance.register(), instance.register()]);
  const { id: conversationId } = await createConversation(instance, owner, [account]);
  const rest = createRestClient(instance, account);
  for (let sent = 0; sent < LARGE_MESSAGES; sent += 1) {
    // Each quote takes two characters in JSON.
    const content = '"'.repeat(LARGE_MESSAGE_CHARS);
    const { status } = await rest.request("POST", `/conversations/${conversationId}/messages`, {
      content,
      reply: false,
    });
    if (status !== 201) throw new Error(`message: ${status}`);
  }
  const streamUser = { account, rest, owner: createRestClient(instance, owner), conversationId };
  const keyExpiresAtMs = Date.now() + (keyLifetimeMs ?? Number.POSITIVE_INFINITY);
  if (!usesApiKey) return { ...streamUser, keyId: "", keyExpiresAtMs, token: account.access_token };
  const expiry = keyLifetimeMs === undefined ? {} : { expires_at: new Date(keyExpiresAtMs).toISOString() };
  const json = { name: "Test", scopes: scopes.filter((scope) => scope !== "admin"), ...expiry };
  const created = await rest.request<{ id: string; key: string }>("POST", "/api-keys", json);
  if (created.status !== 201) throw new Error(`key: ${created.status}`);
  return { ...streamUser, keyId: created.body.id, keyExpiresAtMs, token: created.body.key };
}

/** Creates the user's request to an operation. Only the conversation and message in the request have to exist. */
async function createRequest(operation: Operation, { rest, conversationId }: StreamUser) {
  const sent = await rest.request<{ message: { id: string } }>("POST", `/conversations/${conversationId}/messages`, {
    content: "A question",
    reply: false,
  });
  const userData = {
    word: "word",
    pathValues: { "conversations/{id}": conversationId, "messages/{message_id}": sent.body.message.id },
    fields: {
      conversation_id: conversationId,
      parent_id: null,
      metadata: { conversation_id: conversationId },
      model: CHAT_MODEL,
      reply: true,
    },
  } as unknown as UserData;
  const request = planRequest(operation, userData);
  if (request.json !== undefined && operation.path.startsWith("/v1/"))
    request.json = { ...(request.json as object), model: COMPLETION_MODEL };
  if (operation.id === "exportConversation") request.path += "?format=json";
  const refersToConversation = JSON.stringify(request).includes(conversationId);
  return { request, refersToConversation };
}

type AccessEnd = {
  usesApiKey: boolean;
  keyLifetimeMs?: number;
  /** Whether only the conversation's streams end. */
  isConversationOnly?: boolean;
  endAccess(streamUser: StreamUser): Promise<unknown>;
};

const expectSuccess = async (response: Promise<{ status: number; body: unknown }>) => {
  const { status, body } = await response;
  if (status >= 300) throw new Error(`${status} ${JSON.stringify(body)}`);
};

/** Lifetime of a key that expires in a test, long enough to open all streams first. */
const KEY_LIFETIME_MS = 6_000;
/** The events that end a caller's access. */
const accessEnds: Record<string, AccessEnd> = {
  "the key is deleted": {
    usesApiKey: true,
    endAccess: ({ rest, keyId }) => expectSuccess(rest.request("DELETE", `/api-keys/${keyId}`)),
  },
  "the key expires": {
    usesApiKey: true,
    keyLifetimeMs: KEY_LIFETIME_MS,
    // Expiry is not announced to the instances.
    endAccess: ({ keyExpiresAtMs }) => Bun.sleep(keyExpiresAtMs - Date.now()),
  },
  "the session is revoked": {
    usesApiKey: false,
    endAccess: ({ account }) =>
      instance.fetch("/api/v1/auth/logout", { json: { refresh_token: account.refresh_token } }),
  },
  "the user is disabled": {
    usesApiKey: true,
    endAccess: ({ account }) =>
      expectSuccess(administrator.request("PATCH", `/users/${account.user.id}`, { disabled: true })),
  },
  "the user is deleted by an administrator": {
    usesApiKey: false,
    endAccess: ({ account }) => expectSuccess(administrator.request("DELETE", `/users/${account.user.id}`)),
  },
  "the user deletes their account": {
    usesApiKey: false,
    endAccess: ({ rest }) => expectSuccess(rest.request("DELETE", "/me")),
  },
  "the user is removed from the conversation": {
    usesApiKey: true,
    isConversationOnly: true,
    endAccess: ({ owner, conversationId, account }) =>
      expectSuccess(owner.request("DELETE", `/conversations/${conversationId}/members/${account.user.id}`)),
  },
  "the conversation is deleted": {
    usesApiKey: false,
    isConversationOnly: true,
    endAccess: ({ owner, conversationId }) =>
      expectSuccess(owner.request("DELETE", `/conversations/${conversationId}`)),
  },
};

/** Lists the problems with how a stream ended. */
function listProblems(
  kind: string,
  { path }: Operation,
  { status, text, isComplete }: StreamEnd,
  accessEnd: AccessEnd,
): string[] {
  const isOpenAi = path.startsWith("/v1/");
  const rejectionStatuses = accessEnd.isConversationOnly ? [403, 404] : [401];
  const summary = `${kind} of ${path}: ${status} ${text.slice(-300)}`;
  switch (kind) {
    case "events": {
      const isExpected = isOpenAi
        ? /data: \{"error":\{"message":"[^"]+","type":"\w+","param":null,"code":"\w+"\}\}/.test(text) &&
          !text.includes("[DONE]")
        : // Disabling or deleting a user also stops the user's answers, and that event may be pushed first.
          /event: (?:error|member\.removed|conversation\.deleted|message\.completed)\ndata: \{/.test(text);
      return isExpected && isComplete ? [] : [summary];
    }
    case "download":
      return isComplete ? [summary] : [];
    default:
      return rejectionStatuses.includes(status) && (isOpenAi ? text.includes('{"error":{') : text.includes('"code":"'))
        ? []
        : [summary];
  }
}

type StreamCase = { operation: Operation; kind: string };

const listCases = ({ usesApiKey }: AccessEnd): StreamCase[] =>
  operations
    .filter(({ scope }) => !usesApiKey || scope !== "session")
    .flatMap((operation) => operation.streams.map((kind) => ({ operation, kind })));

/** Opens all streams on `target`, ends the access on `instance`, and waits for the streams to end. */
async function testAccessEnd(
  name: string,
  accessEnd: AccessEnd,
  target: TestApp,
  delayMsMax: number,
): Promise<{ failures: string[]; count: number }> {
  const streamUser = await createStreamUser(accessEnd);
  const headers = { authorization: `Bearer ${streamUser.token}` };
  const plannedStreams = await Promise.all(
    listCases(accessEnd).map(async ({ operation, kind }) => ({
      operation,
      kind,
      ...(await createRequest(operation, streamUser)),
    })),
  );
  const affectedStreams = plannedStreams.filter(
    ({ refersToConversation }) => refersToConversation || !accessEnd.isConversationOnly,
  );
  const openedStreams = await Promise.all(
    affectedStreams.map(async ({ operation, kind, request }) => {
      const opener = streamOpeners[kind];
      if (!opener) throw new Error(`stream-openers.ts has no opener for ${operation.name} (${kind}).`);
      const summary = `when ${name}, ${kind} of ${operation.name}`;
      try {
        return { summary, operation, kind, stream: await opener(target, request, headers) };
      } catch (error) {
        return { summary, operation, kind, error };
      }
    }),
  );
  await accessEnd.endAccess(streamUser);
  const accessEndedAtMs = performance.now();
  const failures = await Promise.all(
    openedStreams.map(async ({ summary, operation, kind, stream, error }) => {
      if (!stream) return [`${summary}: ${error}`];
      if (kind === "download") {
        await Bun.sleep(END_DELAY_MS_MAX);
        stream.resume();
      }
      const end = await Promise.race([stream.ended, Bun.sleep(2 * END_DELAY_MS_MAX).then(() => null)]);
      const durationMs = Math.round(performance.now() - accessEndedAtMs);
      stream.close();
      if (!end) return [`${summary} continues`];
      slowestMs = Math.max(slowestMs, kind === "download" ? 0 : durationMs);
      const isLate = kind !== "download" && durationMs > delayMsMax;
      const problems = listProblems(kind, operation, end, accessEnd).map((problem) => `${summary} ended as ${problem}`);
      return [...problems, ...(isLate ? [`${summary} took ${durationMs} ms`] : [])];
    }),
  );
  return { failures: failures.flat(), count: openedStreams.length };
}

/** Runs the named cases concurrently, but those with an expiring key after all others, and returns the failures. */
async function testAccessEnds(
  names: readonly string[],
  target: TestApp,
  delayMsMax = END_DELAY_MS_MAX,
): Promise<string[]> {
  provider.requests.length = 0;
  slowestMs = 0;
  const runCases = (isExpiring: boolean) =>
    Promise.all(
      names
        .map((name) => ({ name, accessEnd: accessEnds[name] as AccessEnd }))
        .filter(({ accessEnd }) => (accessEnd.keyLifetimeMs !== undefined) === isExpiring)
        .map(({ name, accessEnd }) => testAccessEnd(name, accessEnd, target, delayMsMax)),
    );
  // Streams must be opened before their key expires, so these cases don't run at the same time as the others.
  const results = [...(await runCases(false)), ...(await runCases(true))];
  const count = results.reduce((sum, result) => sum + result.count, 0);
  console.log(
    `open streams: ${count} cases of ${operations.length} operations, the slowest ended after ${slowestMs} ms`,
  );
  expect(count).toBeGreaterThanOrEqual(5 * names.length);
  return [...results.flatMap(({ failures }) => failures), ...(await listUnreleasedResources())];
}

test("the OpenAPI document declares which operations can stay open, and how", () => {
  expect([...new Set(operations.flatMap(({ streams }) => streams))].sort()).toEqual(Object.keys(streamOpeners).sort());
  expect(operations.map(({ id }) => id)).toContain("createChatCompletion");
});

describe("open streams end within 2 s after the caller's access ends", () => {
  test("on the same instance", async () => {
    expect(await testAccessEnds(Object.keys(accessEnds), instance)).toEqual([]);
  }, 60_000);

  test("on another instance", async () => {
    expect(await testAccessEnds(Object.keys(accessEnds), otherInstance)).toEqual([]);
  }, 60_000);

  test("on another instance, if the bus loses the message", async () => {
    link.cut();
    const names = ["the key is deleted", "the key expires", "the session is revoked", "the user is disabled"];
    expect(await testAccessEnds(names, otherInstance, END_DELAY_MS_MAX + DATABASE_CHECK_MS)).toEqual([]);
    link.restore();
  }, 60_000);

  test("on another instance, as soon as the bus reports a gap, if it was disconnected when the user was deleted", async () => {
    const streamUser = await createStreamUser({ usesApiKey: false });
    const feed = operations.find(({ id }) => id === "listEvents") as Operation;
    const { request } = await createRequest(feed, streamUser);
    link.cut();
    const stream = await (streamOpeners.events as NonNullable<typeof streamOpeners.events>)(otherInstance, request, {
      authorization: `Bearer ${streamUser.token}`,
    });
    await expectSuccess(administrator.request("DELETE", `/users/${streamUser.account.user.id}`));
    await waitUntil(
      async () => (await instance.database`select 1 from sessions where user_id = ${streamUser.rest.id}`).length === 0,
    );
    link.restore();
    const end = await Promise.race([stream.ended, Bun.sleep(END_DELAY_MS_MAX).then(() => null)]);
    stream.close();
    expect(end?.text).toMatch(/event: (?:error|member\.removed)/);
  }, 30_000);
});

/**
 * Lists completions that the provider is still generating, and unreleased reservations. Answers in conversations may continue,
 * because they belong to all members.
 */
async function listUnreleasedResources(): Promise<string[]> {
  const completionRequests = provider.listRequests("completion");
  const listReservations = () => instance.database`select id from budget_reservations where owner is not null`;
  const listResources = async () => [
    ...(completionRequests.length > 1 ? [] : ["no completion was requested"]),
    ...completionRequests.filter(({ wasAborted }) => !wasAborted).map(() => "a provider request continues"),
    ...(await listReservations()).map(() => "a reservation wasn't released"),
  ];
  await waitUntil(async () => (await listResources()).length === 0, END_DELAY_MS_MAX).catch(() => {});
  return listResources();
}
