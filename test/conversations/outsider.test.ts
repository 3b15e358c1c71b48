import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createId } from "../../src/lib/id.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { createRest, type Rest } from "../support/rest.ts";

let parley: TestApp;
let owner: Rest;
let outsider: Rest;
let path: string;
let message: string;
let answer: string;

beforeAll(async () => {
  parley = await startApp();
  const accounts: Account[] = await Promise.all([1, 2].map(() => parley.register()));
  [owner, outsider] = accounts.map((account) => createRest(parley, account)) as [Rest, Rest];
  path = `/conversations/${(await createConversation(parley, owner.account)).id}`;
  const { body } = await owner.request<{ message: { id: string }; reply: { id: string } }>("POST", `${path}/messages`, {
    content: "secret",
    reply: true,
    client_message_id: "once",
  });
  message = `${path}/messages/${body.message.id}`;
  answer = `${path}/messages/${body.reply.id}`;
  const isDone = async () => (await owner.get<{ status: string }>(answer)).body.status === "complete";
  while (!(await isDone())) await Bun.sleep(10);
});
afterAll(() => parley.stop());

const readAll = async () => {
  const tables = ["conversations", "members", "messages", "events", "feedback", "generations", "hooks"];
  return Promise.all(tables.map((table) => parley.database`select * from ${parley.database(table)} order by 1, 2`));
};

describe("an outsider", () => {
  /** Every URL below a conversation; `own` is the owner's response, which proves that the request is valid. */
  const requests: { method: string; at: () => string; input?: () => unknown; own: number }[] = [
    { method: "GET", at: () => path, own: 200 },
    { method: "GET", at: () => `${path}/members`, own: 200 },
    { method: "GET", at: () => `${path}/messages`, own: 200 },
    { method: "GET", at: () => `${path}/messages?after_seq=0`, own: 200 },
    { method: "GET", at: () => message, own: 200 },
    { method: "GET", at: () => `${path}/events`, own: 200 },
    { method: "GET", at: () => `${path}/hooks`, own: 200 },
    { method: "POST", at: () => `${path}/hooks`, input: () => ({ name: "x" }), own: 201 },
    {
      method: "POST",
      at: () => `${path}/messages`,
      input: () => ({ content: "x", client_message_id: "once" }),
      own: 201,
    },
    {
      method: "POST",
      at: () => `${path}/messages`,
      input: () => ({ content: "x", parent_id: message.split("/").at(-1) }),
      own: 201,
    },
    { method: "PATCH", at: () => message, input: () => ({ content: "x" }), own: 200 },
    { method: "PUT", at: () => `${answer}/feedback`, input: () => ({ rating: 1 }), own: 200 },
    { method: "DELETE", at: () => `${answer}/feedback`, own: 204 },
    { method: "POST", at: () => `${answer}/cancel`, own: 200 },
    { method: "POST", at: () => `${answer}/regenerate`, own: 201 },
    { method: "PATCH", at: () => path, input: () => ({ title: "x" }), own: 200 },
    { method: "POST", at: () => `${path}/members`, input: () => ({ user_id: outsider.id, role: "owner" }), own: 201 },
    { method: "DELETE", at: () => `${path}/members/${outsider.id}`, own: 204 },
    { method: "DELETE", at: () => message, own: 204 },
    { method: "DELETE", at: () => path, own: 204 },
  ];

  test("gets 404 everywhere, as for unknown conversations, and changes nothing", async () => {
    const before = await readAll();
    for (const { method, at, input } of requests) {
      const refused = await outsider.refused(method, at(), input?.());
      const missing = await outsider.refused(method, at().replace(path, `/conversations/${createId()}`), input?.());
      expect({ method, at: at(), ...refused }).toMatchObject({ status: 404, code: "not_found" });
      expect(refused.detail).toBe(missing.detail);
    }
    expect(await readAll()).toEqual(before);
  });

  test("gets no stream", async () => {
    const headers = { accept: "text/event-stream" };
    const before = await readAll();
    for (const { method, at, input } of requests.filter(
      ({ method, at }) => method === "POST" || at().endsWith("events"),
    )) {
      const { status, headers: answered } = await outsider.request(method, at(), input?.(), headers);
      expect({ at: at(), status }).toEqual({ at: at(), status: 404 });
      expect(answered.get("content-type")).toBe("application/problem+json");
    }
    expect(await readAll()).toEqual(before);
  });

  test("doesn't see it in any list", async () => {
    expect((await outsider.get<{ data: unknown[] }>("/conversations")).body.data).toEqual([]);
  });

  test("without authentication, every request is 401", async () => {
    for (const { method, at, input } of requests) {
      const response = await parley.fetch(`/api/v1${at()}`, { method, ...(input && { json: input() }) });
      expect({ at: at(), status: response.status }).toEqual({ at: at(), status: 401 });
    }
  });

  /** Last, because it deletes the conversation. */
  test("is rejected for being an outsider: the owner's same requests succeed", async () => {
    for (const { method, at, input, own } of requests) {
      const { status } = await owner.request(method, at(), input?.());
      expect({ method, at: at(), status }).toEqual({ method, at: at(), status: own });
    }
  });
});
