import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createId } from "../../src/lib/id.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { createRestClient, type RestClient } from "../support/rest.ts";

let parley: TestApp;
let owner: RestClient;
let outsider: RestClient;
let path: string;
let message: string;
let answer: string;

beforeAll(async () => {
  parley = await startApp();
  const accounts: Account[] = await Promise.all([1, 2].map(() => parley.register()));
  [owner, outsider] = accounts.map((account) => createRestClient(parley, account)) as [RestClient, RestClient];
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

const dumpTables = async () => {
  const tables = ["conversations", "members", "messages", "events", "feedback", "generations", "hooks"];
  return Promise.all(tables.map((table) => parley.database`select * from ${parley.database(table)} order by 1, 2`));
};

describe("an outsider", () => {
  /** Requests to every URL of a conversation. The owner gets `ownerStatus`, which proves that the requests are valid. */
  const requests: { method: string; getPath: () => string; input?: () => unknown; ownerStatus: number }[] = [
    { method: "GET", getPath: () => path, ownerStatus: 200 },
    { method: "GET", getPath: () => `${path}/members`, ownerStatus: 200 },
    { method: "GET", getPath: () => `${path}/messages`, ownerStatus: 200 },
    { method: "GET", getPath: () => `${path}/messages?after_seq=0`, ownerStatus: 200 },
    { method: "GET", getPath: () => message, ownerStatus: 200 },
    { method: "GET", getPath: () => `${path}/events`, ownerStatus: 200 },
    { method: "GET", getPath: () => `${path}/hooks`, ownerStatus: 200 },
    { method: "POST", getPath: () => `${path}/hooks`, input: () => ({ name: "x" }), ownerStatus: 201 },
    {
      method: "POST",
      getPath: () => `${path}/messages`,
      input: () => ({ content: "x", client_message_id: "once" }),
      ownerStatus: 201,
    },
    {
      method: "POST",
      getPath: () => `${path}/messages`,
      input: () => ({ content: "x", parent_id: message.split("/").at(-1) }),
      ownerStatus: 201,
    },
    { method: "PATCH", getPath: () => message, input: () => ({ content: "x" }), ownerStatus: 200 },
    { method: "PUT", getPath: () => `${answer}/feedback`, input: () => ({ rating: 1 }), ownerStatus: 200 },
    { method: "DELETE", getPath: () => `${answer}/feedback`, ownerStatus: 204 },
    { method: "POST", getPath: () => `${answer}/cancel`, ownerStatus: 200 },
    { method: "POST", getPath: () => `${answer}/regenerate`, ownerStatus: 201 },
    { method: "PATCH", getPath: () => path, input: () => ({ title: "x" }), ownerStatus: 200 },
    {
      method: "POST",
      getPath: () => `${path}/members`,
      input: () => ({ user_id: outsider.id, role: "owner" }),
      ownerStatus: 201,
    },
    { method: "DELETE", getPath: () => `${path}/members/${outsider.id}`, ownerStatus: 204 },
    { method: "DELETE", getPath: () => message, ownerStatus: 204 },
    { method: "DELETE", getPath: () => path, ownerStatus: 204 },
  ];

  test("gets 404 everywhere, as for unknown conversations, and changes nothing", async () => {
    const before = await dumpTables();
    for (const { method, getPath, input } of requests) {
      const problem = await outsider.requestProblem(method, getPath(), input?.());
      const missing = await outsider.requestProblem(
        method,
        getPath().replace(path, `/conversations/${createId()}`),
        input?.(),
      );
      expect({ method, path: getPath(), ...problem }).toMatchObject({ status: 404, code: "not_found" });
      expect(problem.detail).toBe(missing.detail);
    }
    expect(await dumpTables()).toEqual(before);
  });

  test("can't open an event stream", async () => {
    const headers = { accept: "text/event-stream" };
    const before = await dumpTables();
    for (const { method, getPath, input } of requests.filter(
      ({ method, getPath }) => method === "POST" || getPath().endsWith("events"),
    )) {
      const { status, headers: responseHeaders } = await outsider.request(method, getPath(), input?.(), headers);
      expect({ path: getPath(), status }).toEqual({ path: getPath(), status: 404 });
      expect(responseHeaders.get("content-type")).toBe("application/problem+json");
    }
    expect(await dumpTables()).toEqual(before);
  });

  test("doesn't see the conversation in the list", async () => {
    expect((await outsider.get<{ data: unknown[] }>("/conversations")).body.data).toEqual([]);
  });

  test("without authentication gets 401 everywhere", async () => {
    for (const { method, getPath, input } of requests) {
      const response = await parley.fetch(`/api/v1${getPath()}`, { method, ...(input && { json: input() }) });
      expect({ path: getPath(), status: response.status }).toEqual({ path: getPath(), status: 401 });
    }
  });

  /** This test is the last one, because it deletes the conversation. */
  test("is rejected only for being an outsider, since the owner's requests succeed", async () => {
    for (const { method, getPath, input, ownerStatus } of requests) {
      const { status } = await owner.request(method, getPath(), input?.());
      expect({ method, path: getPath(), status }).toEqual({ method, path: getPath(), status: ownerStatus });
    }
  });
});
