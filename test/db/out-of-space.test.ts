import { afterAll, beforeAll, expect, test } from "bun:test";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { openSocket } from "../support/socket.ts";

let parley: TestApp;
let anna: Account;
beforeAll(async () => {
  parley = await startApp();
  anna = await parley.register();
});
afterAll(() => parley.stop());

/** Makes Postgres fail as if it had run out of space. */
async function simulateFullDisk(errorCode: "53100" | "53200"): Promise<void> {
  await parley.database.unsafe(`
    create or replace function reject_row() returns trigger language plpgsql as $$
    begin raise exception 'could not extend file: No space left on device' using errcode = '${errorCode}'; end $$`);
  await parley.database.unsafe(
    "create or replace trigger reject_row before insert on messages execute function reject_row()",
  );
  await parley.database.unsafe(`
    create or replace function reject_table() returns event_trigger language plpgsql as $$
    begin raise exception 'could not extend file: No space left on device' using errcode = '${errorCode}'; end $$`);
  await parley.database.unsafe(`
    create event trigger reject_table on ddl_command_start when tag in ('CREATE TABLE AS')
    execute function reject_table()`);
}
const restoreSpace = () =>
  parley.database.unsafe("drop event trigger reject_table; drop trigger reject_row on messages");

test.each(["53100", "53200"] as const)(
  "if Postgres is out of space (%s), messages are rejected with a temporary error and not stored",
  async (errorCode) => {
    const { id } = await createConversation(parley, anna);
    const path = `/api/v1/conversations/${id}/messages`;
    const sendMessage = (content: string) =>
      parley.fetch(path, { token: anna.access_token, json: { content, reply: false } });
    const socket = await openSocket(parley.url, { token: anna.access_token });
    await simulateFullDisk(errorCode);
    const responses = await Promise.all(Array.from({ length: 20 }, (_, n) => sendMessage(`lost ${n}`)));
    for (const response of responses) {
      expect({ status: response.status, retryAfter: response.headers.get("retry-after") }).toEqual({
        status: 503,
        retryAfter: "2",
      });
      expect(await response.json()).toMatchObject({
        code: "unavailable",
        detail: expect.stringContaining("out of space"),
      });
    }
    const frame = {
      type: "message.send",
      conversation_id: id,
      client_message_id: errorCode,
      content: "x",
      reply: false,
    };
    expect(await socket.request(frame)).toMatchObject({ type: "error", code: "unavailable", temporary: true });
    const readiness = await parley.fetch("/readyz?verbose");
    expect({ status: readiness.status, text: await readiness.text() }).toEqual({
      status: 503,
      text: expect.stringContaining("[-]disk failed\n"),
    });
    expect((await parley.fetch("/readyz?exclude=disk")).status).toBe(200);
    await restoreSpace();
    const deadlineMs = performance.now() + 5_000;
    while ((await parley.fetch("/readyz")).status !== 200 && performance.now() < deadlineMs) await Bun.sleep(20);
    expect((await parley.fetch("/readyz")).status).toBe(200);
    expect(await socket.request(frame)).toMatchObject({ type: "ack", duplicate: false, message: { seq: 1 } });
    expect((await sendMessage("space is available again")).status).toBe(201);
    await socket.close();
  },
);
