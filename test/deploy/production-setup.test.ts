import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { connect } from "node:tls";
import { TEST_TIMEOUT_MS } from "../acceptance/installation.ts";
import { TEST_PASSWORD } from "../support/client.ts";
import { openSocket, type TestSocket } from "../support/socket.ts";
import { waitUntil } from "../support/wait-until.ts";
import { type ProductionSetup, startProductionSetup } from "./production-setup.ts";

setDefaultTimeout(3 * TEST_TIMEOUT_MS);

const tls = { rejectUnauthorized: false };
const EMAIL = "ada@example.com";
const SEND_INTERVAL_MS = 20;

let setup: ProductionSetup;
let token = "";
beforeAll(async () => {
  setup = await startProductionSetup();
  const createResult = await setup.installation.run(["admin", "create", "--email", EMAIL, "--password", TEST_PASSWORD]);
  expect(createResult).toMatchObject({ code: 0, stderr: "" });
  await waitUntil(async () => (await sendRequest("/readyz").catch(() => null))?.status === 200, 30_000);
  const login = await sendRequest("/api/v1/auth/login", { email: EMAIL, password: TEST_PASSWORD });
  expect(login.status).toBe(200);
  token = ((await login.json()) as { access_token: string }).access_token;
}, 3 * TEST_TIMEOUT_MS);
afterAll(() => setup?.stop());

/** Sends a request through Caddy, accepting its self-signed certificate. */
function sendRequest(path: string, json?: unknown): Promise<Response> {
  return fetch(`${setup.url}${path}`, {
    tls,
    method: json === undefined ? "GET" : "POST",
    headers: {
      ...(json !== undefined && { "content-type": "application/json" }),
      ...(token && { authorization: `Bearer ${token}` }),
    },
    ...(json !== undefined && { body: JSON.stringify(json) }),
  });
}

/** Sends a GET request without normalizing its path. @returns the raw response. */
function requestRaw(path: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port: setup.caddyPort, host: "localhost", servername: "localhost", ...tls }, () =>
      socket.write(`GET ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`),
    );
    let text = "";
    socket.on("data", (chunk: Buffer) => {
      text += chunk.toString();
    });
    socket.on("end", () => resolve(text));
    socket.on("error", reject);
  });
}

test("Parley's role is not a superuser and owns its database", async () => {
  const ownerQuery =
    "select 1 / count(*) from pg_database join pg_roles on datdba = pg_roles.oid where datname = 'parley' and rolname = 'parley' and not rolsuper and not rolcreaterole and not rolcreatedb";
  await setup.postgres.psql(ownerQuery);
  await expect(setup.postgres.psql(ownerQuery.replace("not rolsuper", "rolsuper"))).rejects.toThrow("division by zero");
  const passwordQuery =
    "select 1 / count(*) from pg_authid where rolname = 'parley' and rolpassword like 'SCRAM-SHA-256$%'";
  await setup.postgres.psql(passwordQuery);
});

test("registration is closed, and Caddy hides the metrics under every spelling of their path", async () => {
  const registration = { email: "eve@example.com", password: TEST_PASSWORD };
  const response = await fetch(`${setup.url}/api/v1/auth/register`, {
    tls,
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(registration),
  });
  expect(response.status).toBe(403);
  for (const path of [
    "/metrics",
    "/metrics/",
    "//metrics",
    "/METRICS",
    "/%6detrics",
    "/metrics?x",
    "/./metrics",
    "/a/../metrics",
    "/metrics%2f",
    "/metrics;x",
  ]) {
    const text = await requestRaw(path);
    expect({ path, isRejected: /^HTTP\/1\.1 (4\d\d|30\d) /.test(text) }).toEqual({ path, isRejected: true });
    expect(text).not.toContain("parley_build_info");
  }
  expect((await sendRequest("/metrics")).status).toBe(404);
});

test("each instance's metrics require the token", async () => {
  for (const { url } of setup.instances) {
    expect((await fetch(`${url}/metrics`)).status).toBe(401);
    const authorization = `Bearer ${setup.readSecret("metrics_token")}`;
    const response = await fetch(`${url}/metrics`, { headers: { authorization } });
    expect(await response.text()).toContain("parley_build_info{");
  }
});

test("the audit log contains the client's real IP address, even if the client sends X-Forwarded-For", async () => {
  const curl = Bun.spawn(
    [
      "curl",
      "--silent",
      "--insecure",
      "--interface",
      "127.0.0.2",
      "--resolve",
      `localhost:${setup.caddyPort}:127.0.0.1`,
      "--header",
      "X-Forwarded-For: 203.0.113.9",
      "--json",
      JSON.stringify({ email: EMAIL, password: TEST_PASSWORD }),
      `${setup.url}/api/v1/auth/login`,
    ],
    { stdout: "pipe" },
  );
  expect(await new Response(curl.stdout).text()).toContain('"access_token"');
  const { data } = (await (await sendRequest("/api/v1/audit?limit=1")).json()) as { data: { ip_address: string }[] };
  expect(data[0]?.ip_address).toBe("127.0.0.2");
});

test("a message sent on one socket reaches the sockets on both instances", async () => {
  const { id: conversation_id } = (await (
    await sendRequest("/api/v1/conversations", { reply_mode: "never" })
  ).json()) as {
    id: string;
  };
  const sockets: TestSocket[] = [];
  for (let n = 0; n < 4; n += 1) sockets.push(await openSocket(setup.url, { token, tls }));
  for (const socket of sockets)
    expect(await socket.request({ type: "subscribe", conversation_id })).toMatchObject({ type: "ack" });
  const connectionCounts = await Promise.all(
    setup.instances.map(async ({ url }) => {
      const authorization = `Bearer ${setup.readSecret("metrics_token")}`;
      const text = await (await fetch(`${url}/metrics`, { headers: { authorization } })).text();
      return Number(/^parley_ws_connections (\d+)/m.exec(text)?.[1]);
    }),
  );
  expect(connectionCounts).toEqual([2, 2]);
  const [firstSocket] = sockets;
  await firstSocket?.request({ type: "message.send", conversation_id, client_message_id: "one", content: "hello" });
  for (const socket of sockets)
    await socket.waitFor(({ type, data }) => type === "message.created" && data?.content === "hello");
  for (const socket of sockets) socket.socket.close();
});

test("no request fails while the instances are replaced one by one, as documented", async () => {
  const { id } = (await (await sendRequest("/api/v1/conversations", { reply_mode: "never" })).json()) as { id: string };
  const failures: string[] = [];
  let sentCount = 0;
  const abortController = new AbortController();
  const sendContinuously = async () => {
    while (!abortController.signal.aborted) {
      sentCount += 1;
      const client_message_id = `message-${sentCount}`;
      const response = await sendRequest(`/api/v1/conversations/${id}/messages`, {
        content: "hello",
        client_message_id,
      }).catch((error: Error) => ({ status: 0, text: async () => error.message }));
      if (response.status !== 201) failures.push(`${response.status} ${await response.text()}`);
      await Bun.sleep(SEND_INTERVAL_MS);
    }
  };
  const senders = [sendContinuously(), sendContinuously()];
  for (const n of [0, 1] as const) {
    const { code } = await setup.instances[n].stop();
    expect(code).toBe(0);
    setup.instances[n] = await setup.startInstance(n);
    // Caddy's health checks run every two seconds.
    await Bun.sleep(3_000);
  }
  abortController.abort();
  await Promise.all(senders);
  expect(failures).toEqual([]);
  expect(sentCount).toBeGreaterThan(50);
  const { last_seq } = (await (await sendRequest(`/api/v1/conversations/${id}`)).json()) as { last_seq: number };
  expect(last_seq).toBe(sentCount);
});
