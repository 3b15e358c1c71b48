import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type Account, TEST_PASSWORD } from "../support/client.ts";
import { type ProviderStandIn, startProviderStandIn } from "../support/provider-stand-in/server.ts";
import { openSocket } from "../support/socket.ts";
import { startAsking } from "./asking.ts";
import { DATABASE_PASSWORD, type DatabaseServer, startDatabaseServer } from "./database-server.ts";
import { createSite, type Parley, TEST_TIMEOUT_MS } from "./site.ts";

setDefaultTimeout(TEST_TIMEOUT_MS);

const settings = {
  JWT_SECRET: "jwt-secret-of-the-tests-0123456789abcdef",
  ADMIN_PASSWORD: "admin-password-of-the-tests",
  METRICS_TOKEN: "metrics-token-of-the-tests",
  OPENAI_API_KEY: "sk-openai-key-of-the-tests",
  ANTHROPIC_API_KEY: "sk-ant-key-of-the-tests",
  COMPATIBLE_API_KEY: "compatible-key-of-the-tests",
};
const WRONG_PASSWORD = "a-password-that-was-mistyped";
const NEW_PASSWORD = "the-next-password-of-anna";
const CONTENT = "What only the members of this conversation may read";

let standIn: ProviderStandIn;
let server: DatabaseServer;
let env: Record<string, string>;
beforeAll(async () => {
  standIn = startProviderStandIn();
  server = await startDatabaseServer();
  env = {
    ...settings,
    LOG_LEVEL: "trace",
    ADMIN_EMAIL: "root@example.com",
    OPENAI_BASE_URL: standIn.openaiUrl,
    ANTHROPIC_BASE_URL: standIn.anthropicUrl,
    COMPATIBLE_BASE_URL: standIn.openaiUrl,
    AI_MODELS: "openai/unauthorized,anthropic/unauthorized,compatible/unauthorized",
    AI_MAX_RETRIES: "0",
  };
});
afterAll(async () => {
  await server?.stop();
  await standIn?.stop();
});

/** Uses every secret in every way in which it can be used, also wrongly. @returns all that must not be logged. */
async function useSecrets(parley: Parley): Promise<string[]> {
  const secrets: string[] = [WRONG_PASSWORD, NEW_PASSWORD, TEST_PASSWORD, CONTENT];
  const anna = await parley.register("anna@example.com");
  const login = { email: "anna@example.com", password: TEST_PASSWORD };
  const post = async (path: string, json: unknown, token?: string) =>
    JSON.parse(
      (await (await parley.fetch(`/api/v1${path}`, { json, ...(token !== undefined && { token }) })).text()) || "null",
    );
  await post("/auth/login", { ...login, password: WRONG_PASSWORD });
  await post("/auth/login", { ...login, password: 7, [WRONG_PASSWORD]: WRONG_PASSWORD });
  await post("/auth/register", login);
  const second = (await post("/auth/login", login)) as Account;
  const renewed = (await post("/auth/refresh", { refresh_token: second.refresh_token })) as Account;
  await post("/auth/refresh", { refresh_token: "never-given-out-token" });
  const { ticket } = (await post("/auth/ticket", {}, anna.access_token)) as { ticket: string };
  for (const query of [`?ticket=${ticket}`, `?ticket=${ticket}`])
    await openSocket(parley.url, { query }).then(
      (socket) => socket.close(),
      () => {},
    );
  await parley.fetch(`/api/v1/me?token=${anna.access_token}`, { headers: { "x-api-key": anna.access_token } });
  const byFrame = await openSocket(parley.url);
  byFrame.send({ type: "auth", id: "a", token: anna.access_token });
  await byFrame.waitFor(({ type }) => type === "ready");
  byFrame.send(`{"type":"auth","id":"b","token":"${anna.access_token}"`);
  await byFrame.close();
  const encoded = Buffer.from(anna.access_token).toString("base64url");
  const byProtocol = await openSocket(parley.url, { protocols: ["parley.v1", `base64url.bearer.${encoded}`] });
  await byProtocol.close();
  await parley.fetch("/metrics", { token: settings.METRICS_TOKEN });
  await post("/me/password", { current_password: TEST_PASSWORD, new_password: NEW_PASSWORD }, renewed.access_token);
  secrets.push(...[anna, second, renewed].flatMap(({ access_token, refresh_token }) => [access_token, refresh_token]));
  secrets.push(ticket, encoded, "never-given-out-token");

  const asking = await startAsking(parley);
  const { message } = await asking.readToEnd(await asking.ask(undefined, CONTENT), 15_000);
  expect(message.status).toBe("failed");
  secrets.push(asking.account.access_token);
  await asking.socket.close();
  return secrets.filter((secret) => secret !== undefined);
}

function expectNone(printed: string, secrets: string[]): void {
  expect(printed.length).toBeGreaterThan(1_000);
  const found = secrets.filter((secret) => printed.includes(secret));
  expect(found).toEqual([]);
}

test.each(["json", "pretty"] as const)("no secret is in the log (%s), whatever is done with it", async (format) => {
  const site = await createSite({ env: { ...env, LOG_FORMAT: format } });
  try {
    const parley = await site.start();
    const secrets = [...Object.values(settings), ...(await useSecrets(parley))];
    await parley.stop();
    const config = await site.run(["config"]);
    expect(config).toMatchObject({ code: 0 });
    expectNone(site.readLog() + readFileSync(join(site.directory, "data/postgres.log"), "utf8"), secrets);
  } finally {
    await site.remove();
  }
});

test("nor is the database's password, when the database goes away and comes back", async () => {
  const site = await createSite({ env: { ...env, DATABASE_URL: await server.createDatabase() } });
  try {
    const parley = await site.start();
    await server.halt("fast");
    while ((await parley.fetch("/readyz")).status !== 503) await Bun.sleep(50);
    await parley.fetch("/api/v1/me", { token: "any" });
    await server.start();
    await parley.waitReady();
    await parley.stop();
    await site.run(["migrate", "--status"]);
    await site.run(["migrate"], {
      DATABASE_URL: env.DATABASE_URL ?? `postgres://parley:${DATABASE_PASSWORD}@127.0.0.1:1/none`,
    });
    await site.run(["config"]);
    expectNone(site.readLog(), [...Object.values(settings), DATABASE_PASSWORD]);
  } finally {
    await site.remove();
  }
});
