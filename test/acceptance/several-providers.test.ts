import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import type { ReceivedRequest } from "../support/mock-provider/wire-format.ts";
import { openChat, waitForText } from "./chat.ts";
import { createInstallation, type Installation, type Parley, TEST_TIMEOUT_MS } from "./installation.ts";

setDefaultTimeout(TEST_TIMEOUT_MS);

const FIRST_KEY = "first-key-0123456789";
const SECOND_KEY = "second-key-0123456789";
/** The value of a header that OpenAI's SDK would read from the environment and send to every server. */
const UNUSED_HEADER = "stray-header-0123456789";
/** A model whose answer takes a minute. */
const SLOW_MODEL = "slow?pieces=3000&delay_ms=20";

let firstProvider: { process: Bun.Subprocess; url: string };
let secondProvider: MockProvider;
let installation: Installation;
let parley: Parley;

/** Starts a mock provider in its own process, so that it can be killed. */
async function startMockProviderProcess(): Promise<typeof firstProvider> {
  const program = join(import.meta.dir, "../support/mock-provider/main.ts");
  const process = Bun.spawn([globalThis.process.execPath, program, "--port", "0"], {
    stdio: ["ignore", "pipe", "ignore"],
  });
  const reader = process.stdout.getReader();
  let stdout = "";
  for (;;) {
    const url = /COMPATIBLE_BASE_URL=(\S+)\n/.exec(stdout)?.[1];
    if (url !== undefined) return { process, url };
    const { done, value } = await reader.read();
    if (done) throw new Error(`The mock provider exited: ${stdout}`);
    stdout += new TextDecoder().decode(value);
  }
}

beforeAll(async () => {
  firstProvider = await startMockProviderProcess();
  secondProvider = startMockProvider();
  secondProvider.script("small/model:free", { text: "Here the second server continues.", pieceDelayMs: 5 });
  installation = await createInstallation({
    env: {
      AI_PROVIDERS: `first=${firstProvider.url},second-server=${secondProvider.openaiUrl}?api-version=1`,
      AI_FIRST_API_KEY: FIRST_KEY,
      AI_SECOND_SERVER_HEADERS: JSON.stringify({ "api-key": SECOND_KEY }),
      OPENAI_CUSTOM_HEADERS: `x-stray: ${UNUSED_HEADER}`,
      AI_MODELS: `first/${SLOW_MODEL},second-server/small/model:free`,
      AI_MAX_RETRIES: "1",
      LOG_LEVEL: "trace",
    },
  });
  parley = await installation.start();
});
afterAll(async () => {
  firstProvider?.process.kill("SIGKILL");
  await installation?.remove();
  await secondProvider?.stop();
});

test("if a compatible server is killed mid-answer, the next one continues the answer, and each server receives only its own key", async () => {
  const chat = await openChat(parley);
  const id = await chat.requestAnswer();
  await waitForText(chat.socket, id, 60);
  const controlUrl = new URL("/control/requests", firstProvider.url);
  const firstRequests = (await (await fetch(controlUrl)).json()) as ReceivedRequest[];
  firstProvider.process.kill("SIGKILL");
  await firstProvider.process.exited;
  const { message, resets, text } = await chat.waitForAnswer(id, 30_000);
  expect(message).toMatchObject({ status: "complete", model: "second-server/small/model:free", error: null });
  expect(text).toBe(message.content);
  expect(text).toMatch(/^word0 word1 word2 .*Here the second server continues\.$/s);
  expect(resets).toMatchObject([{ text: expect.stringMatching(/^word0 word1 /) }]);
  expect(await chat.fetchAnswer(parley, id)).toEqual(message);

  // Parley also requests titles and summaries.
  expect(firstRequests.length).toBeGreaterThan(0);
  for (const { headers } of firstRequests) {
    expect(headers.authorization).toBe(`Bearer ${FIRST_KEY}`);
    expect(headers["api-key"]).toBeUndefined();
  }
  expect(secondProvider.requests.length).toBeGreaterThan(0);
  for (const { headers } of secondProvider.requests) {
    expect(headers["api-key"]).toBe(SECOND_KEY);
    expect(headers.authorization).toBeUndefined();
  }
  const allRequests = JSON.stringify([firstRequests, secondProvider.requests.map(({ headers }) => headers)]);
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
  expect(config.stdout).toContain(
    `AI_PROVIDERS=first=${firstProvider.url},second-server=${secondProvider.openaiUrl}?api-version=1`,
  );
  expect(config.stdout).toContain("AI_FIRST_API_KEY=********");
  expect(config.stdout).toContain("AI_SECOND_SERVER_HEADERS=********");
  expect(config.stderr).toContain(
    "OPENAI_CUSTOM_HEADERS is not a Parley setting and has no effect; did you mean AI_OPENAI_HEADERS?",
  );
  const log = installation.readLog();
  expect(log).toContain("first/slow");
  expect([FIRST_KEY, SECOND_KEY, UNUSED_HEADER].filter((secret) => log.includes(secret))).toEqual([]);
});

test("config check lists all errors", async () => {
  const { code, stderr } = await installation.run(["config", "check"], {
    AI_PROVIDERS: `first=${firstProvider.url},openai=http://gate.example/v1`,
    AI_FIRST_HEADERS: '{"host":"x"}',
    AI_MODELS: "third/x",
  });
  expect(code).toBe(2);
  const lines = stderr.split("\n");
  expect(lines).toContain("AI_PROVIDERS: openai is a built-in provider; choose a different name for the server.");
  expect(lines).toContain("AI_FIRST_HEADERS: the header field host is set by Parley itself; remove it.");
  expect(stderr).toContain(
    'specifies the provider "third", which is not one of openai, anthropic, compatible, offline, first;',
  );
});
