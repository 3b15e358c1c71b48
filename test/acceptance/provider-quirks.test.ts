import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { type Answer, openChat } from "./chat.ts";
import { createInstallation, type Installation, type Parley, TEST_TIMEOUT_MS } from "./installation.ts";
import { providerQuirks } from "./provider-quirk-cases.ts";
import { createCompletionChunks, createStream, type ScriptedServer, startScriptedServer } from "./scripted-server.ts";

setDefaultTimeout(TEST_TIMEOUT_MS);

const HEALTHY = "compatible/healthy";
const HEALTHY_TEXT = "The next model answers.";
/** The number of retries after a transient failure. */
const RETRIES = 1;

const responses = new Map(providerQuirks.map(({ model, response }) => [model, response]));
let server: ScriptedServer;
let installation: Installation;
let parley: Parley;

beforeAll(async () => {
  server = startScriptedServer(
    ({ model }) => responses.get(model) ?? createStream(...createCompletionChunks(HEALTHY_TEXT)),
  );
  const models = providerQuirks.map(({ provider, model }) => `${provider}/${model}`);
  installation = await createInstallation({
    env: {
      OPENAI_API_KEY: "openai-key",
      OPENAI_BASE_URL: server.openaiUrl,
      ANTHROPIC_API_KEY: "anthropic-key",
      ANTHROPIC_BASE_URL: server.anthropicUrl,
      COMPATIBLE_BASE_URL: server.openaiUrl,
      AI_MODELS: [HEALTHY, ...models].join(","),
      AI_MAX_RETRIES: String(RETRIES),
    },
  });
  parley = await installation.start();
});
afterAll(async () => {
  await installation?.remove();
  server?.stop();
});

async function requestAnswer(model: string): Promise<Answer> {
  const chat = await openChat(parley);
  const id = await chat.requestAnswer(model);
  const { message } = await chat.waitForAnswer(id, 20_000);
  await chat.socket.close();
  return message;
}

describe.each(["compatible", "anthropic", "openai"])("unusual %s responses", (provider) => {
  const cases = providerQuirks.filter((quirk) => quirk.provider === provider);
  test.each(cases)(
    "produce the expected result: $name",
    async ({ model, expectedText, expectedRequests, expectedUsage }) => {
      const name = `${provider}/${model}`;
      const message = await requestAnswer(name);
      const keepsPartialText = message.content.startsWith("Half");
      expect({ status: message.status, content: message.content, model: message.model }).toEqual(
        expectedText === null
          ? { status: "complete", content: keepsPartialText ? `Half${HEALTHY_TEXT}` : HEALTHY_TEXT, model: HEALTHY }
          : { status: "complete", content: expectedText, model: name },
      );
      expect(server.listRequests(model).length).toBe(expectedRequests ?? (expectedText === null ? RETRIES + 1 : 1));
      if (expectedUsage) expect(message.usage).toMatchObject(expectedUsage);
      if (expectedText !== null)
        for (const count of [message.usage?.input_tokens, message.usage?.output_tokens]) {
          expect(count).toBeInteger();
          expect(count).toBeWithin(1, 200_000);
        }
    },
  );
});
