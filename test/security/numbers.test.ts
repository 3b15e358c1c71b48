import { afterAll, beforeAll, expect, test } from "bun:test";
import { createId } from "../../src/lib/id.ts";
import { startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { createRest, type Rest } from "../support/rest.ts";
import { openSocket } from "../support/socket.ts";
import { listOperations } from "./catalogue.ts";

/** 2^53+1, which `JSON.parse` reads as 2^53. */
const GREAT = "9007199254740993";
const explanation = /between -9007199254740991 and 9007199254740991/;

let parley: TestApp;
let anna: Rest;
beforeAll(async () => {
  parley = await startApp();
  const account = await parley.register();
  await parley.database`update users set role = 'admin' where id = ${account.user.id}`;
  anna = createRest(parley, account);
});
afterAll(() => parley.stop());

/** Sends text that no JSON library would write. */
const send = (method: string, path: string, body: string) =>
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
  const faults: string[] = [];
  for (const { method, path, name } of operations) {
    if (path.includes("{token}")) continue;
    const answer = await send(method, path.replaceAll(/\{\w+\}/g, createId()), `{"a":{"b":[0,${GREAT}]}}`);
    const text = await answer.text();
    const isRight = path.startsWith("/v1/")
      ? answer.status === 400 && text.includes('"param":"a.b[1]"')
      : answer.status === 422 && text.includes('"pointer":"#/a/b/1"');
    if (!isRight || !explanation.test(text)) faults.push(`${name}: ${answer.status} ${text}`);
  }
  expect(faults).toEqual([]);
  expect(operations.length).toBeGreaterThan(20);
});

test("neither do hooks and frames, and the error names the location", async () => {
  const { id } = await createConversation(parley, anna.account);
  const hook = await anna.request<{ token: string }>("POST", `/conversations/${id}/hooks`, { name: "of the suite" });
  const posted = await send("POST", `/api/v1/hooks/${hook.body.token}`, `{"content":"Hello","extra":${GREAT}}`);
  expect([posted.status, explanation.test(await posted.text())]).toEqual([422, true]);

  const socket = await openSocket(parley.url, { token: anna.account.access_token });
  for (const [frame, pointer] of [
    [`{"type":"ping","id":"1","n":[${GREAT}]}`, "#/n/0"],
    [`{"type":"read","id":"2","conversation_id":"${id}","seq":1e400}`, "#/seq"],
  ]) {
    socket.send(frame ?? "");
    const error = await socket.waitFor(
      ({ type, errors }) => type === "error" && JSON.stringify(errors).includes(pointer ?? ""),
    );
    expect(error).toMatchObject({ code: "invalid", temporary: false, detail: expect.stringMatching(explanation) });
  }
  await socket.close();
});

test("accepted numbers are returned exactly as sent", async () => {
  const free = `{"int":9007199254740991,"negative":[-9007199254740991],"fraction":0.1,"tiny":5e-324,"text":"${GREAT}"}`;
  const put = await send("PUT", "/api/v1/me/preferences", free);
  expect(put.status).toBe(200);
  const created = await send("POST", "/api/v1/conversations", `{"metadata":${free}}`);
  const { id } = (await created.json()) as { id: string };
  const expected = JSON.parse(free);
  expect((await anna.get("/me/preferences")).body).toEqual(expected);
  expect((await anna.get<{ metadata: object }>(`/conversations/${id}`)).body.metadata).toEqual(expected);
});
