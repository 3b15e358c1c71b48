import { afterAll, beforeAll, expect, test } from "bun:test";
import { createId } from "../../src/lib/id.ts";
import { startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { createRestClient, type RestClient } from "../support/rest.ts";
import { openSocket } from "../support/socket.ts";
import { listOperations } from "./catalog.ts";

/** 2^53+1, which `JSON.parse` reads as 2^53. */
const UNSAFE_INTEGER = "9007199254740993";
const rangePattern = /between -9007199254740991 and 9007199254740991/;

let parley: TestApp;
let anna: RestClient;
beforeAll(async () => {
  parley = await startApp();
  const account = await parley.register();
  await parley.database`update users set role = 'admin' where id = ${account.user.id}`;
  anna = createRestClient(parley, account);
});
afterAll(() => parley.stop());

/** Sends a raw body, because JSON libraries can't write unsafe integers. */
const sendBody = (method: string, path: string, body: string) =>
  parley.fetch(path, {
    method,
    token: anna.account.access_token,
    body,
    headers: { "content-type": "application/json" },
  });

test("no operation accepts a number that would lose precision", async () => {
  const operations = (await listOperations(parley)).filter(
    ({ id, body, streams }) => body !== null && id !== "postToHook" && !streams.includes("upload"),
  );
  const failures: string[] = [];
  for (const { method, path, name } of operations) {
    if (path.includes("{token}")) continue;
    const response = await sendBody(
      method,
      path.replaceAll(/\{\w+\}/g, createId()),
      `{"a":{"b":[0,${UNSAFE_INTEGER}]}}`,
    );
    const text = await response.text();
    const isExpected = path.startsWith("/v1/")
      ? response.status === 400 && text.includes('"param":"a.b[1]"')
      : response.status === 422 && text.includes('"pointer":"#/a/b/1"');
    if (!isExpected || !rangePattern.test(text)) failures.push(`${name}: ${response.status} ${text}`);
  }
  expect(failures).toEqual([]);
  expect(operations.length).toBeGreaterThan(20);
});

test("hooks and frames reject a number that would lose precision, and the error states its location", async () => {
  const { id } = await createConversation(parley, anna.account);
  const hook = await anna.request<{ token: string }>("POST", `/conversations/${id}/hooks`, { name: "Test" });
  const hookResponse = await sendBody(
    "POST",
    `/api/v1/hooks/${hook.body.token}`,
    `{"content":"Hello","extra":${UNSAFE_INTEGER}}`,
  );
  expect([hookResponse.status, rangePattern.test(await hookResponse.text())]).toEqual([422, true]);

  const socket = await openSocket(parley.url, { token: anna.account.access_token });
  for (const [frame, pointer] of [
    [`{"type":"ping","id":"1","n":[${UNSAFE_INTEGER}]}`, "#/n/0"],
    [`{"type":"read","id":"2","conversation_id":"${id}","seq":1e400}`, "#/seq"],
  ]) {
    socket.send(frame ?? "");
    const error = await socket.waitFor(
      ({ type, errors }) => type === "error" && JSON.stringify(errors).includes(pointer ?? ""),
    );
    expect(error).toMatchObject({ code: "invalid", temporary: false, detail: expect.stringMatching(rangePattern) });
  }
  await socket.close();
});

test("accepted numbers are returned exactly as sent", async () => {
  const freeFormJson = `{"int":9007199254740991,"negative":[-9007199254740991],"fraction":0.1,"tiny":5e-324,"text":"${UNSAFE_INTEGER}"}`;
  const put = await sendBody("PUT", "/api/v1/me/preferences", freeFormJson);
  expect(put.status).toBe(200);
  const created = await sendBody("POST", "/api/v1/conversations", `{"metadata":${freeFormJson}}`);
  const { id } = (await created.json()) as { id: string };
  const expected = JSON.parse(freeFormJson);
  expect((await anna.get("/me/preferences")).body).toEqual(expected);
  expect((await anna.get<{ metadata: object }>(`/conversations/${id}`)).body.metadata).toEqual(expected);
});
