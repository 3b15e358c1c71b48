import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { waitUntil } from "../support/wait-until.ts";

setDefaultTimeout(40_000);
let provider: MockProvider;
let parley: TestApp;
let anna: Account;
let hasStopped = false;

beforeAll(async () => {
  provider = startMockProvider();
  parley = await startApp({
    database: await createTestDatabase(10),
    config: {
      COMPATIBLE_BASE_URL: provider.openaiUrl,
      AI_MODELS: "compatible/one,compatible/two",
      AI_MAX_RETRIES: "0",
      BUDGET_USER_TOKENS_PER_DAY: "100000000",
    },
  });
  anna = await parley.register();
});
afterAll(async () => {
  if (!hasStopped) await parley.stop();
  await parley.database.end({ timeout: 1 });
  await provider.stop();
});

const longAnswer = { pieces: Array.from({ length: 500 }, (_, n) => `w${n} `), pieceDelayMs: 20 };
const getToken = () => anna.access_token;

const countRows = async (sql: Promise<readonly unknown[]>) => (await sql).length;

/** Requests an answer, and waits until it has text. */
async function startAnswer(): Promise<{ conversationId: string; path: string }> {
  const { id } = await createConversation(parley, anna);
  const path = `/api/v1/conversations/${id}/messages`;
  const response = await parley.fetch(path, { token: getToken(), json: { content: "Talk to me.", reply: true } });
  const { reply } = (await response.json()) as { reply: { id: string } };
  await waitUntil(
    async () =>
      (await countRows(parley.database`
    select 1 from current_messages where id = ${reply.id} and content <> ''`)) > 0,
  );
  return { conversationId: id, path: `${path}/${reply.id}` };
}

const requestCompletion = (extraFields: object, signal?: AbortSignal) =>
  fetch(`${parley.url}/v1/chat/completions`, {
    method: "POST",
    headers: { authorization: `Bearer ${getToken()}`, "content-type": "application/json" },
    body: JSON.stringify({ model: "compatible/one", messages: [{ role: "user", content: "Why?" }], ...extraFields }),
    ...(signal && { signal }),
  });

const countTokens = async (): Promise<number> => {
  const text = await parley.metrics.registry.metrics();
  const values = [...text.matchAll(/^parley_ai_tokens_total\{.+kind="(?:input|output)"\} (\S+)$/gm)].map(([, value]) =>
    Number(value),
  );
  return values.reduce((sum, value) => sum + value, 0);
};
const fetchSpending = async () => {
  const [row] = await parley.database<{ spent: number; reserved: number }[]>`
    select spent_tokens as spent, reserved_tokens as reserved from budget_windows
    where scope_id = ${anna.user.id} and period = 'day'`;
  return row ?? { spent: 0, reserved: 0 };
};

/** Waits until the budget has charged the tokens that the metrics counted, and nothing is reserved. */
async function waitUntilChargesMatch(): Promise<void> {
  await waitUntil(
    async () => (await fetchSpending()).reserved === 0 && (await fetchSpending()).spent === (await countTokens()),
  );
}

test("the charged tokens match the metrics no matter how an answer ends", async () => {
  let previousTokens = 0;
  const expectMatchingCharges = async (name: string) => {
    await waitUntilChargesMatch().catch(async () => {
      throw new Error(
        `${name}: ${await countTokens()} tokens counted, ${JSON.stringify(await fetchSpending())} charged.`,
      );
    });
    const currentTokens = await countTokens();
    expect([name, currentTokens > previousTokens]).toEqual([name, true]);
    previousTokens = currentTokens;
  };

  provider.script("one", { pieces: ["Some ", "text"], fault: "cut", piecesBeforeFault: 1 });
  provider.script("two", { text: "and its end." });
  await startAnswer();
  await waitUntil(
    async () => (await countRows(parley.database`select 1 from generations where status <> 'finished'`)) === 0,
  );
  await expectMatchingCharges("completed after a failover");

  provider.script("two", { pieces: ["Some ", "text"], fault: "cut", piecesBeforeFault: 1 });
  const failedResponse = await requestCompletion({});
  expect(failedResponse.status).toBe(503);
  await expectMatchingCharges("failed on /v1");

  provider.script("one", longAnswer);
  const cancelledAnswer = await startAnswer();
  await parley.fetch(`${cancelledAnswer.path}/cancel`, { method: "POST", token: getToken() });
  await expectMatchingCharges("cancelled");

  const deletedAnswer = await startAnswer();
  await parley.fetch(`/api/v1/conversations/${deletedAnswer.conversationId}`, { method: "DELETE", token: getToken() });
  await expectMatchingCharges("conversation deleted");

  const controller = new AbortController();
  const stream = await requestCompletion({ stream: true }, controller.signal);
  await stream.body?.getReader().read();
  await Bun.sleep(200);
  controller.abort();
  await expectMatchingCharges("client of /v1 disconnected");

  await startAnswer();
  provider.script("one", { text: "and the end." });
  await parley.database`
    update generations set fence = fence + 1, owner = gen_random_uuid(), lease_until = now() + interval '1 s'
    where status = 'running'`;
  await waitUntil(
    async () => (await countRows(parley.database`select 1 from generations where status <> 'finished'`)) === 0,
  );
  await expectMatchingCharges("taken over");

  provider.script("one", longAnswer);
  const { id: storedId } = await createConversation(parley, anna);
  const completion = requestCompletion({ metadata: { conversation_id: storedId } }).catch(() => null);
  await startAnswer();
  await parley.stop();
  hasStopped = true;
  await completion;
  const spentTokens = (await fetchSpending()).spent;
  expect(spentTokens).toBe(await countTokens());
  expect(spentTokens).toBeGreaterThan(previousTokens);
});
