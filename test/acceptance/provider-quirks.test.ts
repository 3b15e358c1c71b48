import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { type Answer, openChat } from "./chat.ts";
import { providerQuirks } from "./provider-quirk-cases.ts";
import { completionChunks, type ScriptedServer, startScriptedServer, stream } from "./scripted-server.ts";
import { createSite, type Parley, type Site, TEST_TIMEOUT_MS } from "./site.ts";

setDefaultTimeout(TEST_TIMEOUT_MS);

const HEALTHY = "compatible/healthy";
const healthyText = "The next model answers.";
/** Retries of one model after a transient failure. */
const RETRIES = 1;

const replies = new Map(providerQuirks.map(({ model, reply }) => [model, reply]));
let server: ScriptedServer;
let site: Site;
let parley: Parley;

beforeAll(async () => {
  server = startScriptedServer(({ model }) => replies.get(model) ?? stream(...completionChunks(healthyText)));
  const models = providerQuirks.map(({ provider, model }) => `${provider}/${model}`);
  site = await createSite({
    env: {
      OPENAI_API_KEY: "key-of-openai",
      OPENAI_BASE_URL: server.openaiUrl,
      ANTHROPIC_API_KEY: "key-of-anthropic",
      ANTHROPIC_BASE_URL: server.anthropicUrl,
      COMPATIBLE_BASE_URL: server.openaiUrl,
      AI_MODELS: [HEALTHY, ...models].join(","),
      AI_MAX_RETRIES: String(RETRIES),
    },
  });
  parley = await site.start();
});
afterAll(async () => {
  await site?.remove();
  server?.stop();
});

async function readAnswer(model: string): Promise<Answer> {
  const chat = await openChat(parley);
  const id = await chat.ask(model);
  const { message } = await chat.readToEnd(id, 20_000);
  await chat.socket.close();
  return message;
}

describe.each(["compatible", "anthropic", "openai"])("%s", (provider) => {
  const cases = providerQuirks.filter((one) => one.provider === provider);
  test.each(cases)("$name", async ({ model, content, requests, usage }) => {
    const name = `${provider}/${model}`;
    const message = await readAnswer(name);
    const isShown = message.content.startsWith("Half");
    expect({ status: message.status, content: message.content, model: message.model }).toEqual(
      content === null
        ? { status: "complete", content: isShown ? `Half${healthyText}` : healthyText, model: HEALTHY }
        : { status: "complete", content, model: name },
    );
    expect(server.requestsOf(model).length).toBe(requests ?? (content === null ? RETRIES + 1 : 1));
    if (usage) expect(message.usage).toMatchObject(usage);
    if (content !== null)
      for (const count of [message.usage?.input_tokens, message.usage?.output_tokens]) {
        expect(count).toBeInteger();
        expect(count).toBeWithin(1, 200_000);
      }
  });
});
