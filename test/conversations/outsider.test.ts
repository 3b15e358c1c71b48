import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createId } from "../../src/lib/id.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { createRestClient, type RestClient } from "../support/rest.ts";

let parley: TestApp;
let owner: RestClient;
let outsider: RestClient;
let path: string;
let messagePath: string;
let answerPath: string;

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
  messagePath = `${path}/messages/${body.message.id}`;
  answerPath = `${path}/messages/${body.reply.id}`;
  const isDone = async () => (await owner.get<{ status: string }>(answerPath)).body.status === "complete";
  while (!(await isDone())) await Bun.sleep(10);
});
afterAll(() => parley.stop());

const dumpTables = async () => {
  const tables = ["conversations", "members", "messages", "events", "feedback", "generations", "hooks"];
  return Promise.all(tables.map((table) => parley.database`select * from ${parley.database(table)} order by 1, 2`));
};

describe("an outsider", () => {
  /** Requests to every URL of a conversation. The owner receives `ownerStatus`, which proves that the requests are valid. */
  const requests: { method: string; getPath: () => string; input?: () => unknown; ownerStatus: number }[] = [
    { method: "GET", getPath: () => path, ownerStatus: 200 },
    { method: "GET", getPath: () => `${path}/members`, ownerStatus: 200 },
    { method: "GET", getPath: () => `${path}/messages`, ownerStatus: 200 },
    { method: "GET", getPath: () => `${path}/messages?after_seq=0`, ownerStatus: 200 },
    { method: "GET", getPath: () => messagePath, ownerStatus: 200 },
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
      input: () => ({ content: "x", parent_id: messagePath.split("/").at(-1) }),
      ownerStatus: 201,
    },
    { method: "PATCH", getPath: () => messagePath, input: () => ({ content: "x" }), ownerStatus: 200 },
    { method: "PUT", getPath: () => `${answerPath}/feedback`, input: () => ({ rating: 1 }), ownerStatus: 200 },
    { method: "DELETE", getPath: () => `${answerPath}/feedback`, ownerStatus: 204 },
    { method: "POST", getPath: () => `${answerPath}/cancel`, ownerStatus: 200 },
    { method: "POST", getPath: () => `${answerPath}/regenerate`, ownerStatus: 201 },
    { method: "PATCH", getPath: () => path, input: () => ({ title: "x" }), ownerStatus: 200 },
    {
      method: "POST",
      getPath: () => `${path}/members`,
      input: () => ({ user_id: outsider.id, role: "owner" }),
      ownerStatus: 201,
    },
    { method: "DELETE", getPath: () => `${path}/members/${outsider.id}`, ownerStatus: 204 },
    { method: "DELETE", getPath: () => messagePath, ownerStatus: 204 },
    { method: "DELETE", getPath: () => path, ownerStatus: 204 },
  ];

  test("receives 404 for every request, as for an unknown conversation, and changes nothing", async () => {
    const tablesBefore = await dumpTables();
    for (const { method, getPath, input } of requests) {
      const problem = await outsider.requestProblem(method, getPath(), input?.());
      const unknownProblem = await outsider.requestProblem(
        method,
        getPath().replace(path, `/conversations/${createId()}`),
        input?.(),
      );
      expect({ method, path: getPath(), ...problem }).toMatchObject({ status: 404, code: "not_found" });
      expect(problem.detail).toBe(unknownProblem.detail);
    }
    expect(await dumpTables()).toEqual(tablesBefore);
  });

  test("can't open an event stream", async () => {
    const headers = { accept: "text/event-stream" };
    const tablesBefore = await dumpTables();
    for (const { method, getPath, input } of requests.filter(
      ({ method, getPath }) => method === "POST" || getPath().endsWith("events"),
    )) {
      const { status, headers: responseHeaders } = await outsider.request(method, getPath(), input?.(), headers);
      expect({ path: getPath(), status }).toEqual({ path: getPath(), status: 404 });
      expect(responseHeaders.get("content-type")).toBe("application/problem+json");
    }
    expect(await dumpTables()).toEqual(tablesBefore);
  });

  test("doesn't see the conversation in the list", async () => {
    expect((await outsider.get<{ data: unknown[] }>("/conversations")).body.data).toEqual([]);
  });

  test("receives 401 for every request without authentication", async () => {
    for (const { method, getPath, input } of requests) {
      const response = await parley.fetch(`/api/v1${getPath()}`, { method, ...(input && { json: input() }) });
      expect({ path: getPath(), status: response.status }).toEqual({ path: getPath(), status: 401 });
    }
  });

  /** This test is the last one, because it deletes the conversation. */
  test("isn't rejected for any other reason, because the owner's requests succeed", async () => {
    for (const { method, getPath, input, ownerStatus } of requests) {
      const { status } = await owner.request(method, getPath(), input?.());
      expect({ method, path: getPath(), status }).toEqual({ method, path: getPath(), status: ownerStatus });
    }
  });
});
