import { afterAll, beforeAll, expect, test } from "bun:test";
import { connect } from "node:net";
import { startApp, type TestApp } from "../support/app.ts";
import { createRest, type Rest } from "../support/rest.ts";

let parley: TestApp;
let anna: Rest;
beforeAll(async () => {
  parley = await startApp();
  anna = createRest(parley, await parley.register());
});
afterAll(() => parley.stop());

/** Sends the first half of a request's body, waits for `between`, then sends the rest. @returns the response. */
async function sendInHalves(token: string, json: object, between: () => Promise<unknown>): Promise<string> {
  const { hostname, port } = new URL(parley.url);
  const socket = connect(Number(port), hostname);
  const body = JSON.stringify(json);
  socket.write(
    `POST /api/v1/conversations HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer ${token}\r\n` +
      `Content-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body.slice(0, 5)}`,
  );
  await Bun.sleep(150);
  await between();
  socket.write(body.slice(5));
  let text = "";
  for await (const bytes of socket) text += String(bytes);
  return text;
}

const listTitles = async () =>
  (await anna.get<{ data: { title: string }[] }>("/conversations")).body.data.map(({ title }) => title);

test("a request with a slowly arriving body succeeds", async () => {
  const text = await sendInHalves(anna.account.access_token, { title: "slow" }, async () => {});
  expect(text).toStartWith("HTTP/1.1 201");
  expect(await listTitles()).toEqual(["slow"]);
});

test("it is refused if the key was deleted or the session ended meanwhile", async () => {
  const json = { name: "slow", scopes: ["conversations:write"] };
  const { body: key } = await anna.request<{ id: string; key: string }>("POST", "/api-keys", json);
  const byKey = await sendInHalves(key.key, { title: "by a key" }, () => anna.request("DELETE", `/api-keys/${key.id}`));
  const login = await parley.fetch("/api/v1/auth/login", {
    json: { email: anna.account.user.email, password: "correct horse battery" },
  });
  const session = (await login.json()) as { access_token: string; refresh_token: string };
  const bySession = await sendInHalves(session.access_token, { title: "by a session" }, () =>
    parley.fetch("/api/v1/auth/logout", { json: { refresh_token: session.refresh_token } }),
  );
  for (const text of [byKey, bySession]) {
    expect(text).toStartWith("HTTP/1.1 401");
    expect(text).toContain('"code":"unauthorized"');
  }
  expect(await listTitles()).toEqual(["slow"]);
});
