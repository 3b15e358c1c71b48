import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createTestLog } from "../support/log.ts";

/** Secrets by provider. Together, the providers use every way to set credentials. */
const secretsByProvider: Record<string, string[]> = {
  openai: ["sk-openai-0123456789", "openai-gate-0123456789"],
  anthropic: ["sk-ant-anthropic-0123456789", "anthropic-gate-0123456789"],
  compatible: ["compatible-key-0123456789", "compatible-gate-0123456789"],
  alpha: ["alpha-key-0123456789"],
  beta: ["beta-key-0123456789", "beta-second-0123456789"],
  gamma: ["gamma-user", "gamma-pass-0123456789", btoa("gamma-user:gamma-pass-0123456789")],
  delta: ["delta-token-0123456789"],
  epsilon: ["epsilon-query-0123456789"],
  zeta: ["zeta-token-0123456789"],
};
/** An API key that is never sent, because a custom header field replaces it. */
const UNUSED_KEY = "unused-delta-key-0123456789";
const providerNames = Object.keys(secretsByProvider);
const allSecrets = [...Object.values(secretsByProvider).flat(), UNUSED_KEY];

const statuses = [300, 301, 302, 303, 307, 308];
const modelNames = [
  "hello",
  "cut",
  "fails",
  "echo-401",
  "echo-400",
  "echo-404",
  "echo-stream",
  ...statuses.map((n) => `to-${n}`),
];

type Server = { origin: string; receivedRequests: string[]; stop(): void };
const servers: Record<string, Server> = {};

const createTextEvent = (content: string, finish_reason: string | null): string =>
  `data: ${JSON.stringify({ choices: [{ index: 0, delta: { content }, finish_reason }] })}\n\n`;

/** Responds with the fault that the model's name specifies, and echoes the request in every field of an error. */
function respond(name: string, model: string, requestText: string, redirectTo: string): Response {
  const [, status] = /^(?:echo|to)-(\d+)$/.exec(model) ?? [];
  const echo = {
    error: {
      message: requestText,
      code: requestText.slice(0, 60),
      param: requestText.slice(-60),
      type: requestText,
      metadata: { raw: requestText },
    },
  };
  if (model.startsWith("to-")) return new Response(null, { status: Number(status), headers: { location: redirectTo } });
  if (status !== undefined) return Response.json(echo, { status: Number(status) });
  if (model === "fails") return Response.json(echo, { status: 500 });
  const head = { headers: { "content-type": "text/event-stream" } };
  if (model === "echo-stream") return new Response(`data: ${JSON.stringify(echo)}\n\n`, head);
  if (model === "cut") return new Response(createTextEvent(`Words of ${name}. `, null), head);
  return new Response(`${createTextEvent("The end.", "stop")}data: [DONE]\n\n`, head);
}

function startServer(name: string): Server {
  const receivedRequests: string[] = [];
  const listener = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    development: false,
    async fetch(request) {
      const body = await request.text();
      const requestText = [request.url, ...[...request.headers].map(([field, value]) => `${field}: ${value}`)].join(
        "\n",
      );
      receivedRequests.push(`${requestText}\n${body}`);
      const next = providerNames[(providerNames.indexOf(name) + 1) % providerNames.length] ?? "";
      return respond(
        name,
        (JSON.parse(body) as { model: string }).model,
        requestText,
        `${servers[next]?.origin}/v1/other?moved=1`,
      );
    },
  });
  return { origin: `http://127.0.0.1:${listener.port}`, receivedRequests, stop: () => void listener.stop(true) };
}

const { log, lines } = createTestLog("trace");
let parley: TestApp;
let anna: Account;

function createConfig(models: readonly string[]): Record<string, string> {
  const getOrigin = (name: string) => servers[name]?.origin ?? "";
  const formatHeaders = (fields: Record<string, string>) => JSON.stringify(fields);
  return {
    OPENAI_API_KEY: "sk-openai-0123456789",
    OPENAI_BASE_URL: `${getOrigin("openai")}/v1`,
    AI_OPENAI_HEADERS: formatHeaders({ "x-gate": "openai-gate-0123456789" }),
    ANTHROPIC_API_KEY: "sk-ant-anthropic-0123456789",
    ANTHROPIC_BASE_URL: getOrigin("anthropic"),
    AI_ANTHROPIC_HEADERS: formatHeaders({ "X-Gate": "anthropic-gate-0123456789" }),
    COMPATIBLE_API_KEY: "compatible-key-0123456789",
    COMPATIBLE_BASE_URL: `${getOrigin("compatible")}/v1`,
    AI_COMPATIBLE_HEADERS: formatHeaders({ Cookie: "session=compatible-gate-0123456789" }),
    AI_PROVIDERS: [
      `alpha=${getOrigin("alpha")}/v1`,
      `beta=${getOrigin("beta")}/v1`,
      `gamma=${getOrigin("gamma").replace("://", "://gamma-user:gamma-pass-0123456789@")}/v1`,
      `delta=${getOrigin("delta")}/v1`,
      `epsilon=${getOrigin("epsilon")}/v1?api-version=2024-10-21&key=epsilon-query-0123456789`,
      `zeta=${getOrigin("zeta")}/v1`,
    ].join(","),
    AI_ALPHA_API_KEY: "alpha-key-0123456789",
    AI_BETA_HEADERS: formatHeaders({ "api-key": "beta-key-0123456789", "X-Second": "beta-second-0123456789" }),
    AI_DELTA_API_KEY: UNUSED_KEY,
    AI_DELTA_HEADERS: formatHeaders({ Authorization: "Token delta-token-0123456789" }),
    AI_ZETA_HEADERS: formatHeaders({ authorization: "Bearer zeta-token-0123456789" }),
    AI_MODELS: models.join(","),
    AI_MAX_RETRIES: "0",
  };
}

beforeAll(async () => {
  for (const name of providerNames) servers[name] = startServer(name);
  const models = providerNames.flatMap((name) => modelNames.map((kind) => `${name}/${kind}`));
  // All other models fail over to the first one.
  parley = await startApp({ config: createConfig(["compatible/hello", ...models]), log });
  anna = await parley.register();
});
afterAll(async () => {
  await parley?.stop();
  for (const server of Object.values(servers)) server.stop();
});

/** Everything that clients received. */
const clientResponses: string[] = [];

async function requestCompletion(
  model: string,
  { app = parley, account = anna } = {},
): Promise<{ status: number; text: string }> {
  const json = { model, messages: [{ role: "user", content: "Hello" }] };
  const response = await app.fetch("/v1/chat/completions", { token: account.access_token, json });
  const text = await response.text();
  clientResponses.push(text);
  return { status: response.status, text };
}

describe.each(providerNames)("%s", (name) => {
  test("receives its own credentials", async () => {
    await requestCompletion(`${name}/hello`);
    const [firstRequest = ""] = servers[name]?.receivedRequests ?? [];
    const sentSecrets = (secretsByProvider[name] ?? []).filter((secret) => !/^gamma-user$|^gamma-pass/.test(secret));
    for (const secret of sentSecrets) expect(firstRequest).toContain(secret);
    expect(firstRequest.match(/^authorization: /gm)?.length ?? 0).toBe(["beta", "epsilon"].includes(name) ? 0 : 1);
  });

  test.each(statuses)("can't redirect to another server with a %i", async (status) => {
    await requestCompletion(`${name}/to-${status}`);
    expect(servers[name]?.receivedRequests.at(name === "compatible" ? -2 : -1)).toContain(`"to-${status}"`);
    const redirectedRequests = Object.values(servers).flatMap(({ receivedRequests }) =>
      receivedRequests.filter((requestText) => requestText.includes("/other?moved")),
    );
    expect(redirectedRequests).toEqual([]);
  });

  test.each(["echo-401", "echo-400", "echo-404", "echo-stream", "fails"])(
    "can't expose credentials by echoing them (%s)",
    async (kind) => {
      await requestCompletion(`${name}/${kind}`);
      const line = lines.find(({ model, cause }) => model === `${name}/${kind}` && typeof cause === "string");
      expect(String(line?.cause).length).toBeGreaterThan(10);
    },
  );
});

test("an answer fails over from provider to provider, whether they fail before or during their answers", async () => {
  const failingModels = providerNames.map((name) =>
    /^(?:openai|anthropic)$/.test(name) ? `${name}/fails` : `${name}/cut`,
  );
  const app = await startApp({ config: createConfig([...failingModels, "delta/hello"]), log });
  const requestCounts = providerNames.map((name) => servers[name]?.receivedRequests.length ?? 0);
  const { status, text } = await requestCompletion("openai/fails", { app, account: await app.register() });
  expect([status, JSON.parse(text).choices[0].message.content]).toEqual([
    200,
    `${providerNames
      .slice(2)
      .map((name) => `Words of ${name}. `)
      .join("")}The end.`,
  ]);
  for (const [index, name] of providerNames.entries())
    expect((servers[name]?.receivedRequests.length ?? 0) - (requestCounts[index] ?? 0)).toBe(name === "delta" ? 2 : 1);
  await app.stop();
});

test("no server has received another provider's credentials", () => {
  let checkedCount = 0;
  for (const name of providerNames) {
    const otherSecrets = allSecrets.filter((secret) => !secretsByProvider[name]?.includes(secret));
    for (const request of servers[name]?.receivedRequests ?? []) {
      expect(otherSecrets.filter((secret) => request.includes(secret))).toEqual([]);
      checkedCount += 1;
    }
  }
  expect(checkedCount).toBeGreaterThan(100);
});

test("no credentials appear in answers, metrics, model lists or the log", async () => {
  for (const path of ["/metrics", "/readyz?verbose"]) clientResponses.push(await (await parley.fetch(path)).text());
  for (const path of ["/v1/models", "/api/v1/models"])
    clientResponses.push(await (await parley.fetch(path, { token: anna.access_token })).text());
  const allOutput = [...clientResponses, ...lines.map((line) => JSON.stringify(line))].join("\n");
  expect(allOutput).toContain("delta/hello");
  expect(allOutput).toContain("parley_generation");
  expect(allSecrets.filter((secret) => allOutput.includes(secret))).toEqual([]);
});
