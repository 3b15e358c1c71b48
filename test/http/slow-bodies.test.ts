import { afterAll, beforeAll, expect, test } from "bun:test";
import { connect } from "node:net";
import { startApp, type TestApp } from "../support/app.ts";
import { createRestClient, type RestClient } from "../support/rest.ts";

let parley: TestApp;
let anna: RestClient;
beforeAll(async () => {
  parley = await startApp();
  anna = createRestClient(parley, await parley.register());
});
afterAll(() => parley.stop());

/** Sends the first part of a request's body, calls `onFirstPartSent`, and sends the rest. @returns the response. */
async function sendInTwoParts(token: string, json: object, onFirstPartSent: () => Promise<unknown>): Promise<string> {
  const { hostname, port } = new URL(parley.url);
  const socket = connect(Number(port), hostname);
  const body = JSON.stringify(json);
  socket.write(
    `POST /api/v1/conversations HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer ${token}\r\n` +
      `Content-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body.slice(0, 5)}`,
  );
  await Bun.sleep(150);
  await onFirstPartSent();
  socket.write(body.slice(5));
  let text = "";
  for await (const bytes of socket) text += String(bytes);
  return text;
}

const listTitles = async () =>
  (await anna.get<{ data: { title: string }[] }>("/conversations")).body.data.map(({ title }) => title);

test("a request whose body arrives slowly succeeds", async () => {
  const text = await sendInTwoParts(anna.account.access_token, { title: "slow" }, async () => {});
  expect(text).toStartWith("HTTP/1.1 201");
  expect(await listTitles()).toEqual(["slow"]);
});

test("a request is rejected if its API key or session is revoked before its body has arrived", async () => {
  const json = { name: "slow", scopes: ["conversations:write"] };
  const { body: apiKey } = await anna.request<{ id: string; key: string }>("POST", "/api-keys", json);
  const keyResponse = await sendInTwoParts(apiKey.key, { title: "by a key" }, () =>
    anna.request("DELETE", `/api-keys/${apiKey.id}`),
  );
  const loginResponse = await parley.fetch("/api/v1/auth/login", {
    json: { email: anna.account.user.email, password: "correct horse battery" },
  });
  const session = (await loginResponse.json()) as { access_token: string; refresh_token: string };
  const sessionResponse = await sendInTwoParts(session.access_token, { title: "by a session" }, () =>
    parley.fetch("/api/v1/auth/logout", { json: { refresh_token: session.refresh_token } }),
  );
  for (const text of [keyResponse, sessionResponse]) {
    expect(text).toStartWith("HTTP/1.1 401");
    expect(text).toContain('"code":"unauthorized"');
  }
  expect(await listTitles()).toEqual(["slow"]);
});
