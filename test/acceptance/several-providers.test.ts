import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import type { ReceivedRequest } from "../support/mock-provider/wire-format.ts";
import { openChat, waitForText } from "./chat.ts";
import { createInstallation, type Installation, type Parley, TEST_TIMEOUT_MS } from "./installation.ts";

setDefaultTimeout(TEST_TIMEOUT_MS);

const FIRST_KEY = "key-of-the-first-0123456789";
const SECOND_KEY = "key-of-the-second-0123456789";
/** OpenAI's SDK would read this header from the environment, and send it to every server. */
const UNUSED_HEADER = "stray-header-0123456789";
/** A model whose answer takes a minute. */
const SLOW = "slow?pieces=3000&delay_ms=20";

let first: { process: Bun.Subprocess; url: string };
let second: MockProvider;
let installation: Installation;
let parley: Parley;

/** Starts a mock provider in its own process, so that it can be killed. */
async function startMockProviderProcess(): Promise<typeof first> {
  const program = join(import.meta.dir, "../support/mock-provider/main.ts");
  const process = Bun.spawn([globalThis.process.execPath, program, "--port", "0"], {
    stdio: ["ignore", "pipe", "ignore"],
  });
  const reader = process.stdout.getReader();
  let printed = "";
  for (;;) {
    const url = /COMPATIBLE_BASE_URL=(\S+)\n/.exec(printed)?.[1];
    if (url !== undefined) return { process, url };
    const { done, value } = await reader.read();
    if (done) throw new Error(`The mock provider exited: ${printed}`);
    printed += new TextDecoder().decode(value);
  }
}

beforeAll(async () => {
  first = await startMockProviderProcess();
  second = startMockProvider();
  second.script("small/model:free", { text: "Here the second server continues.", pieceDelayMs: 5 });
  installation = await createInstallation({
    env: {
      AI_PROVIDERS: `first=${first.url},second-server=${second.openaiUrl}?api-version=1`,
      AI_FIRST_API_KEY: FIRST_KEY,
      AI_SECOND_SERVER_HEADERS: JSON.stringify({ "api-key": SECOND_KEY }),
      OPENAI_CUSTOM_HEADERS: `x-stray: ${UNUSED_HEADER}`,
      AI_MODELS: `first/${SLOW},second-server/small/model:free`,
      AI_MAX_RETRIES: "1",
      LOG_LEVEL: "trace",
    },
  });
  parley = await installation.start();
});
afterAll(async () => {
  first?.process.kill("SIGKILL");
  await installation?.remove();
  await second?.stop();
});

test("if a compatible server is killed mid-answer, the next one continues the answer, and each server receives only its own key", async () => {
  const chat = await openChat(parley);
  const id = await chat.requestAnswer();
  await waitForText(chat.socket, id, 60);
  const firstUrl = new URL("/control/requests", first.url);
  const firstRequests = (await (await fetch(firstUrl)).json()) as ReceivedRequest[];
  first.process.kill("SIGKILL");
  await first.process.exited;
  const { message, resets, text } = await chat.waitForAnswer(id, 30_000);
  expect(message).toMatchObject({ status: "complete", model: "second-server/small/model:free", error: null });
  expect(text).toBe(message.content);
  expect(text).toMatch(/^word0 word1 word2 .*Here the second server continues\.$/s);
  expect(resets).toMatchObject([{ text: expect.stringMatching(/^word0 word1 /) }]);
  expect(await chat.fetchMessage(parley, id)).toEqual(message);

  // Parley also requests titles and summaries.
  expect(firstRequests.length).toBeGreaterThan(0);
  for (const { headers } of firstRequests) {
    expect(headers.authorization).toBe(`Bearer ${FIRST_KEY}`);
    expect(headers["api-key"]).toBeUndefined();
  }
  expect(second.requests.length).toBeGreaterThan(0);
  for (const { headers } of second.requests) {
    expect(headers["api-key"]).toBe(SECOND_KEY);
    expect(headers.authorization).toBeUndefined();
  }
  const allRequests = JSON.stringify([firstRequests, second.requests.map(({ headers }) => headers)]);
  expect(allRequests).not.toContain(UNUSED_HEADER);

  const metrics = await (await parley.fetch("/metrics")).text();
  expect(metrics).toMatch(/parley_ai_failovers_total\{from="first\/slow[^"]*",to="second-server\/small\/model:free"/);
  const { access_token: token } = chat.account;
  const { data } = (await (await parley.fetch("/api/v1/models", { token })).json()) as { data: { id: string }[] };
  expect(data).toMatchObject([
    { provider: "first" },
    { id: "second-server/small/model:free", provider: "second-server" },
  ]);
  await chat.socket.close();
});

test("the log and `parley config` contain no keys, and an unused variable causes a warning", async () => {
  const config = await installation.run(["config"]);
  expect(config.output).toContain(`AI_PROVIDERS=first=${first.url},second-server=${second.openaiUrl}?api-version=1`);
  expect(config.output).toContain("AI_FIRST_API_KEY=********");
  expect(config.output).toContain("AI_SECOND_SERVER_HEADERS=********");
  expect(config.errors).toContain(
    "OPENAI_CUSTOM_HEADERS is not a setting of Parley and has no effect; did you mean AI_OPENAI_HEADERS?",
  );
  const log = installation.readLog();
  expect(log).toContain("first/slow");
  expect([FIRST_KEY, SECOND_KEY, UNUSED_HEADER].filter((secret) => log.includes(secret))).toEqual([]);
});

test("config check lists all errors", async () => {
  const { code, errors } = await installation.run(["config", "check"], {
    AI_PROVIDERS: `first=${first.url},openai=http://gate.example/v1`,
    AI_FIRST_HEADERS: '{"host":"x"}',
    AI_MODELS: "third/x",
  });
  expect(code).toBe(2);
  const lines = errors.split("\n");
  expect(lines).toContain("AI_PROVIDERS: openai is a built-in provider; choose another name for the server.");
  expect(lines).toContain("AI_FIRST_HEADERS: the header field host is set by Parley itself; remove it.");
  expect(errors).toContain(
    'names the provider "third", which is not one of openai, anthropic, compatible, offline, first;',
  );
});
