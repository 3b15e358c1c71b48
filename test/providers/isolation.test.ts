import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createTestLog } from "../support/log.ts";

/** Every provider with different credentials, set in each possible way. */
const secretsOf: Record<string, string[]> = {
  openai: ["sk-of-openai-0123456789", "gate-of-openai-0123456789"],
  anthropic: ["sk-ant-of-anthropic-0123456789", "gate-of-anthropic-0123456789"],
  compatible: ["key-of-compatible-0123456789", "gate-of-compatible-0123456789"],
  alpha: ["key-of-alpha-0123456789"],
  beta: ["key-of-beta-0123456789", "second-of-beta-0123456789"],
  gamma: ["gamma-user", "pass-of-gamma-0123456789", btoa("gamma-user:pass-of-gamma-0123456789")],
  delta: ["token-of-delta-0123456789"],
  epsilon: ["query-of-epsilon-0123456789"],
  zeta: ["token-of-zeta-0123456789"],
};
/** A custom header field overrides the key, so this key is never sent. */
const UNUSED_KEY = "unused-key-of-delta-0123456789";
const names = Object.keys(secretsOf);
const allSecrets = [...Object.values(secretsOf).flat(), UNUSED_KEY];

const statuses = [300, 301, 302, 303, 307, 308];
const kinds = [
  "hello",
  "cut",
  "fails",
  "echo-401",
  "echo-400",
  "echo-404",
  "echo-stream",
  ...statuses.map((n) => `to-${n}`),
];

type Server = { origin: string; seen: string[]; stop(): void };
const servers: Record<string, Server> = {};

const text = (content: string, finish_reason: string | null): string =>
  `data: ${JSON.stringify({ choices: [{ index: 0, delta: { content }, finish_reason }] })}\n\n`;

/** Behaves as the model's name says, and echoes what it received in every part of its errors. */
function answer(name: string, model: string, requestText: string, redirectTo: string): Response {
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
  if (model === "cut") return new Response(text(`Words of ${name}. `, null), head);
  return new Response(`${text("The end.", "stop")}data: [DONE]\n\n`, head);
}

function startServer(name: string): Server {
  const seen: string[] = [];
  const listener = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    development: false,
    async fetch(request) {
      const body = await request.text();
      const requestText = [request.url, ...[...request.headers].map(([field, value]) => `${field}: ${value}`)].join(
        "\n",
      );
      seen.push(`${requestText}\n${body}`);
      const next = names[(names.indexOf(name) + 1) % names.length] ?? "";
      return answer(
        name,
        (JSON.parse(body) as { model: string }).model,
        requestText,
        `${servers[next]?.origin}/v1/other?moved=1`,
      );
    },
  });
  return { origin: `http://127.0.0.1:${listener.port}`, seen, stop: () => void listener.stop(true) };
}

const { log, lines } = createTestLog("trace");
let parley: TestApp;
let anna: Account;

function configure(models: readonly string[]): Record<string, string> {
  const at = (name: string) => servers[name]?.origin ?? "";
  const headers = (fields: Record<string, string>) => JSON.stringify(fields);
  return {
    OPENAI_API_KEY: "sk-of-openai-0123456789",
    OPENAI_BASE_URL: `${at("openai")}/v1`,
    AI_OPENAI_HEADERS: headers({ "x-gate": "gate-of-openai-0123456789" }),
    ANTHROPIC_API_KEY: "sk-ant-of-anthropic-0123456789",
    ANTHROPIC_BASE_URL: at("anthropic"),
    AI_ANTHROPIC_HEADERS: headers({ "X-Gate": "gate-of-anthropic-0123456789" }),
    COMPATIBLE_API_KEY: "key-of-compatible-0123456789",
    COMPATIBLE_BASE_URL: `${at("compatible")}/v1`,
    AI_COMPATIBLE_HEADERS: headers({ Cookie: "session=gate-of-compatible-0123456789" }),
    AI_PROVIDERS: [
      `alpha=${at("alpha")}/v1`,
      `beta=${at("beta")}/v1`,
      `gamma=${at("gamma").replace("://", "://gamma-user:pass-of-gamma-0123456789@")}/v1`,
      `delta=${at("delta")}/v1`,
      `epsilon=${at("epsilon")}/v1?api-version=2024-10-21&key=query-of-epsilon-0123456789`,
      `zeta=${at("zeta")}/v1`,
    ].join(","),
    AI_ALPHA_API_KEY: "key-of-alpha-0123456789",
    AI_BETA_HEADERS: headers({ "api-key": "key-of-beta-0123456789", "X-Second": "second-of-beta-0123456789" }),
    AI_DELTA_API_KEY: UNUSED_KEY,
    AI_DELTA_HEADERS: headers({ Authorization: "Token token-of-delta-0123456789" }),
    AI_ZETA_HEADERS: headers({ authorization: "Bearer token-of-zeta-0123456789" }),
    AI_MODELS: models.join(","),
    AI_MAX_RETRIES: "0",
  };
}

beforeAll(async () => {
  for (const name of names) servers[name] = startServer(name);
  const models = names.flatMap((name) => kinds.map((kind) => `${name}/${kind}`));
  // The first one is representative of all that fail.
  parley = await startApp({ config: configure(["compatible/hello", ...models]), log });
  anna = await parley.register();
});
afterAll(async () => {
  await parley?.stop();
  for (const server of Object.values(servers)) server.stop();
});

/** Everything that clients received. */
const shown: string[] = [];

async function ask(model: string, { by = parley, account = anna } = {}): Promise<{ status: number; text: string }> {
  const json = { model, messages: [{ role: "user", content: "Hello" }] };
  const response = await by.fetch("/v1/chat/completions", { token: account.access_token, json });
  const answered = await response.text();
  shown.push(answered);
  return { status: response.status, text: answered };
}

describe.each(names)("%s", (name) => {
  test("each request carries the provider's own credentials", async () => {
    await ask(`${name}/hello`);
    const [first = ""] = servers[name]?.seen ?? [];
    const own = (secretsOf[name] ?? []).filter((secret) => !/^gamma-user$|^pass-of-gamma/.test(secret));
    for (const secret of own) expect(first).toContain(secret);
    expect(first.match(/^authorization: /gm)?.length ?? 0).toBe(["beta", "epsilon"].includes(name) ? 0 : 1);
  });

  test.each(statuses)("a redirect with %i to another server is not followed", async (status) => {
    await ask(`${name}/to-${status}`);
    expect(servers[name]?.seen.at(name === "compatible" ? -2 : -1)).toContain(`"to-${status}"`);
    const redirected = Object.values(servers).flatMap(({ seen }) =>
      seen.filter((requestText) => requestText.includes("/other?moved")),
    );
    expect(redirected).toEqual([]);
  });

  test.each(["echo-401", "echo-400", "echo-404", "echo-stream", "fails"])(
    "%s: echoed credentials reach no client",
    async (kind) => {
      await ask(`${name}/${kind}`);
      const line = lines.find(({ model, cause }) => model === `${name}/${kind}` && typeof cause === "string");
      expect(String(line?.cause).length).toBeGreaterThan(10);
    },
  );
});

test("a chain over all of them, each failing before or during its answer, sends each its own", async () => {
  const broken = names.map((name) => (/^(?:openai|anthropic)$/.test(name) ? `${name}/fails` : `${name}/cut`));
  const by = await startApp({ config: configure([...broken, "delta/hello"]), log });
  const requestCounts = names.map((name) => servers[name]?.seen.length ?? 0);
  const { status, text: answered } = await ask("openai/fails", { by, account: await by.register() });
  expect([status, JSON.parse(answered).choices[0].message.content]).toEqual([
    200,
    `${names
      .slice(2)
      .map((name) => `Words of ${name}. `)
      .join("")}The end.`,
  ]);
  for (const [index, name] of names.entries())
    expect((servers[name]?.seen.length ?? 0) - (requestCounts[index] ?? 0)).toBe(name === "delta" ? 2 : 1);
  await by.stop();
});

test("no server has seen another's credentials", () => {
  let checked = 0;
  for (const name of names) {
    const foreign = allSecrets.filter((secret) => !secretsOf[name]?.includes(secret));
    for (const request of servers[name]?.seen ?? []) {
      expect(foreign.filter((secret) => request.includes(secret))).toEqual([]);
      checked += 1;
    }
  }
  expect(checked).toBeGreaterThan(100);
});

test("no credential is in an answer, in the log, or in the lists of models", async () => {
  for (const path of ["/metrics", "/readyz?verbose"]) shown.push(await (await parley.fetch(path)).text());
  for (const path of ["/v1/models", "/api/v1/models"])
    shown.push(await (await parley.fetch(path, { token: anna.access_token })).text());
  const everything = [...shown, ...lines.map((line) => JSON.stringify(line))].join("\n");
  expect(everything).toContain("delta/hello");
  expect(everything).toContain("parley_generation");
  expect(allSecrets.filter((secret) => everything.includes(secret))).toEqual([]);
});
