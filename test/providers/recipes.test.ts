import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { parseEnv } from "node:util";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { type CompatibleServer, startCompatibleServer } from "../support/compatible-servers/server.ts";
import { createTestLog } from "../support/log.ts";
import { allServers, findKey, listRecipes, replaceServerOrigin } from "./recipes.ts";

const pieces = ["Grüße ", "aus der ", "Ferne."];

type Completion = {
  choices: { message: { content: string }; finish_reason: string }[];
  usage: {
    prompt_tokens: number;
    completion_tokens: number;
    prompt_tokens_details: { cached_tokens: number };
    completion_tokens_details: { reasoning_tokens: number };
  };
  error?: { code: string };
};

const recipes = listRecipes();

test("each recipe in the guide has a fake server, and each fake server has a recipe", () => {
  const names = recipes.map(({ heading, block }) => `${heading} ${block}`).sort();
  expect(names).toEqual(allServers.map(({ recipe }) => `${recipe.heading} ${recipe.block ?? 0}`).sort());
  expect(names.length).toBe(13);
});

test.each(recipes)("the lines of $heading, recipe $block, set the same values in `.env`", ({ lines, environment }) => {
  expect(parseEnv(lines.replaceAll(/^export /gm, ""))).toEqual(environment);
});

describe.each(recipes)("$heading, recipe $block", ({ heading, block, environment }) => {
  const serverProfile = allServers.find(({ recipe }) => recipe.heading === heading && (recipe.block ?? 0) === block);
  if (!serverProfile) throw new Error(`No fake server for ${heading}.`);
  const key = findKey(environment, serverProfile);
  const model = environment.AI_MODELS?.split(",")[0] ?? "";
  const { log, lines } = createTestLog("trace");
  let server: CompatibleServer;
  let parley: TestApp;
  let anna: Account;

  beforeAll(async () => {
    server = startCompatibleServer(serverProfile, key, pieces);
    parley = await startApp({
      config: { AI_MAX_RETRIES: "0", ...replaceServerOrigin(environment, server.origin) },
      log,
    });
    anna = await parley.register();
  });
  afterAll(async () => {
    await parley?.stop();
    await server?.stop();
  });

  async function requestCompletion(fields: object = {}): Promise<{ status: number; body: Completion }> {
    const response = await parley.fetch("/v1/chat/completions", {
      token: anna.access_token,
      json: { model, messages: [{ role: "user", content: "Hello" }], ...fields },
    });
    return { status: response.status, body: (await response.json()) as Completion };
  }

  test("returns the answer and its usage, and sends only the credential that the server expects", async () => {
    const { status, body } = await requestCompletion({ temperature: 0.5, max_tokens: 100 });
    expect([status, body.choices?.[0]?.message.content, body.choices?.[0]?.finish_reason]).toEqual([
      200,
      pieces.join(""),
      "stop",
    ]);
    const { input, output, cached = 0, reasoning = 0 } = serverProfile.tokenCount;
    // A request that was rejected because of a parameter is retried once. The rejected attempt is not charged.
    expect(body.usage).toMatchObject({
      prompt_tokens: input,
      completion_tokens: output,
      prompt_tokens_details: { cached_tokens: cached },
      completion_tokens_details: { reasoning_tokens: reasoning },
    });
    for (const { path, headers } of server.requests) {
      expect(path).toBe(serverProfile.path);
      const { field, scheme } = serverProfile.credential ?? { field: "", scheme: "" };
      const expectedHeaders = serverProfile.credential === null ? {} : { [field]: `${scheme}${key}` };
      const { authorization, "api-key": apiKey, "x-api-key": xApiKey } = headers;
      const sentHeaders = { authorization, "api-key": apiKey, "x-api-key": xApiKey };
      expect(Object.fromEntries(Object.entries(sentHeaders).filter(([, value]) => value !== undefined))).toEqual(
        expectedHeaders,
      );
    }
    expect(server.requests.at(-1)?.body.model).toBe(model.slice(model.indexOf("/") + 1));
  });

  test("returns an error without the server's message if a stream fails in the middle", async () => {
    server.mode = "error in stream";
    const { status, body } = await requestCompletion();
    expect(status).toBeGreaterThanOrEqual(400);
    expect(JSON.stringify(body)).not.toContain("message_of_the_server");
    expect(body.error?.code).toBeDefined();
    const [, serverText] = /"(?:message|error)":\s*"([^"]+)"/.exec(serverProfile.formatStreamError(model)) ?? [];
    if (serverText !== undefined) expect(JSON.stringify(body)).not.toContain(serverText);
    server.mode = "answer";
  });

  test("returns the server's error for an unknown model without a retry", async () => {
    server.mode = "unknown model";
    const requestCountBefore = server.requests.length;
    const { status } = await requestCompletion();
    server.mode = "answer";
    expect(status).toBe(serverProfile.unknownModel.status);
    const modelRequests = server.requests
      .slice(requestCountBefore)
      .filter(({ body }) => body.model === model.slice(model.indexOf("/") + 1));
    expect(modelRequests.length).toBe(1);
    if (status !== 404) return;
    const line = lines.find(({ model: failed, status }) => failed === model && status === 404);
    expect(line?.msg).toContain(
      `has no model ${model.slice(model.indexOf("/") + 1)} (404): check its name in AI_MODELS`,
    );
    server.mode = "answer";
  });

  test.if(serverProfile.wrongKey !== undefined)("logs which setting has the wrong key", async () => {
    server.mode = "wrong key";
    const { status } = await requestCompletion();
    expect(status).toBe(503);
    const line = lines.find(({ code }) => code === "provider_unauthorized");
    const setting = Object.keys(environment).find((name) => /_API_KEY$|^AI_AZURE.*_HEADERS$/.test(name));
    expect(line?.msg).toContain(`${setting} was rejected by 127.0.0.1`);
    server.mode = "answer";
  });

  test("never logs the key", () => {
    expect(lines.length).toBeGreaterThan(0);
    // Placeholders like `...` appear everywhere.
    if (key !== null && key.length > 6) expect(JSON.stringify(lines)).not.toContain(key);
  });
});

test("the log explains that a base URL lacks its path, whatever the server responds", async () => {
  const servers = allServers.map((serverProfile) => startCompatibleServer(serverProfile, null, pieces));
  const { log, lines } = createTestLog();
  const parley = await startApp({
    config: {
      AI_MAX_RETRIES: "0",
      AI_PROVIDERS: servers.map(({ origin }, index) => `server-${index}=${origin}`).join(","),
      AI_MODELS: servers.map((_, index) => `server-${index}/model`).join(","),
    },
    log,
  });
  const anna = await parley.register();
  // All servers are called, because each of them fails.
  const json = { model: "server-0/model", messages: [{ role: "user", content: "Hello" }] };
  const response = await parley.fetch("/v1/chat/completions", { token: anna.access_token, json });
  expect(response.status).toBeGreaterThanOrEqual(400);
  for (const [index, { wrongPath }] of allServers.entries()) {
    const line = lines.find(({ model, code }) => model === `server-${index}/model` && typeof code === "string");
    if (wrongPath.status === 404)
      expect(line?.msg).toContain(`the URL of server-${index} in AI_PROVIDERS has no /v1 at its end`);
    else expect(line?.cause).toContain("Unexpected endpoint");
  }
  await parley.stop();
  await Promise.all(servers.map((server) => server.stop()));
});
