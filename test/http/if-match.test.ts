import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { requirePreconditions } from "../../src/http/mount.ts";
import { route } from "../../src/http/route.ts";
import { startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { createRestClient, type RestClient } from "../support/rest.ts";

let parley: TestApp;
let anna: RestClient;
let ben: RestClient;
beforeAll(async () => {
  parley = await startApp({ config: { WEBHOOK_ALLOW_PRIVATE_NETWORKS: "true" } });
  [anna, ben] = (await Promise.all([parley.register(), parley.register()])).map((account) =>
    createRestClient(parley, account),
  ) as [RestClient, RestClient];
});
afterAll(() => parley.stop());

type Kind = { create(): Promise<string>; change: (text: string) => object; read: (body: unknown) => unknown };
const post = async (path: string, json: object) =>
  `${path}/${(await anna.request<{ id: string }>("POST", path, json)).body.id}`;

/** The kinds of resources that have an ETag and can be changed. */
const kinds: Record<string, Kind> = {
  conversation: {
    create: async () => `/conversations/${(await createConversation(parley, anna.account)).id}`,
    change: (title) => ({ title }),
    read: (body) => (body as { title: string }).title,
  },
  prompt: {
    create: () => post("/prompts", { name: "P", template: "Hello." }),
    change: (template) => ({ template }),
    read: (body) => (body as { template: string }).template,
  },
  webhook: {
    create: () => post("/webhooks", { url: "http://127.0.0.1:9/x", events: ["message.created"] }),
    change: (description) => ({ description }),
    read: (body) => (body as { description: string }).description,
  },
};

describe.each(Object.keys(kinds))("a %s", (name) => {
  const { create, change, read } = kinds[name] as Kind;
  const getTag = async (path: string) => (await anna.get(path)).headers.get("etag") ?? "";
  const patch = (path: string, text: string, ifMatch?: string, user = anna) =>
    user.request<{ code?: string }>(
      "PATCH",
      path,
      change(text),
      ifMatch === undefined ? undefined : { "if-match": ifMatch },
    );
  const remove = (path: string, ifMatch: string, user = anna) =>
    user.request<{ code?: string }>("DELETE", path, undefined, { "if-match": ifMatch });

  test("changes only if the ETag is current, and is returned with its new ETag", async () => {
    const path = await create();
    const tag = await getTag(path);
    const changeResponse = await patch(path, "one", tag);
    expect(changeResponse.status).toBe(200);
    expect(changeResponse.headers.get("etag")).toBe(await getTag(path));
    const staleResponse = await patch(path, "two", tag);
    expect(staleResponse).toMatchObject({ status: 412, body: { code: "precondition_failed" } });
    expect(read((await anna.get(path)).body)).toBe("one");
    expect((await patch(path, "three", changeResponse.headers.get("etag") ?? "")).status).toBe(200);
    expect((await patch(path, "four")).status).toBe(200);
  });

  test("accepts exactly one of eight concurrent changes with the same ETag", async () => {
    const path = await create();
    const tag = await getTag(path);
    const responses = await Promise.all(Array.from({ length: 8 }, (_, n) => patch(path, `change ${n}`, tag)));
    expect(responses.filter(({ status }) => status === 200)).toHaveLength(1);
    expect(responses.filter(({ status }) => status === 412)).toHaveLength(7);
    const winner = responses.findIndex(({ status }) => status === 200);
    expect(read((await anna.get(path)).body)).toBe(`change ${winner}`);
  });

  test("accepts its ETag in a list, or `*`, but not a weak or unquoted ETag", async () => {
    const path = await create();
    let textCount = 0;
    const change = async (ifMatch: (tag: string) => string) =>
      (await patch(path, `text ${++textCount}`, ifMatch(await getTag(path)))).status;
    for (const valid of [(tag: string) => `"a,b", ${tag}`, (tag: string) => `W/"x" ,${tag},"y"`, () => " * "])
      expect(await change(valid)).toBe(200);
    const invalid = [(tag: string) => `W/${tag}`, (tag: string) => tag.slice(1, -1), (tag: string) => `"${tag}"`];
    for (const ifMatch of [...invalid, () => "x", () => '"*"', () => `"${"x".repeat(5_000)}"`, () => '"x", *'])
      expect(await change(ifMatch)).toBe(412);
  });

  test("can be deleted if the ETag is current", async () => {
    const path = await create();
    const tag = await getTag(path);
    await patch(path, "changed");
    expect(await remove(path, tag)).toMatchObject({ status: 412, body: { code: "precondition_failed" } });
    expect((await anna.get(path)).status).toBe(200);
    expect((await remove(path, await getTag(path))).status).toBe(204);
    expect((await remove(path, "*")).status).toBe(404);
  });

  test("accepts a change or a concurrent deletion with the same ETag, but not both", async () => {
    const path = await create();
    const tag = await getTag(path);
    const [changed, removed] = await Promise.all([patch(path, "one", tag), remove(path, tag)]);
    const statuses = [changed.status, removed.status];
    // The change either comes first, or fails after the deletion.
    expect([
      [200, 412],
      [404, 204],
      [412, 204],
    ]).toContainEqual(statuses);
  });

  test("doesn't exist for outsiders, who get 404 regardless of the ETag", async () => {
    const path = await create();
    for (const ifMatch of [await getTag(path), '"other"', "*"]) {
      expect((await patch(path, "theirs", ifMatch, ben)).status).toBe(404);
      expect((await remove(path, ifMatch, ben)).status).toBe(404);
    }
  });

  test("rejects invalid input even if the ETag is outdated", async () => {
    const path = await create();
    const response = await anna.request("PATCH", path, { nothing: 1 }, { "if-match": '"other"' });
    expect(response.status).toBe(422);
  });
});

test("a member who isn't an owner gets 403 regardless of the ETag", async () => {
  const path = `/conversations/${(await createConversation(parley, anna.account, [ben.account])).id}`;
  for (const ifMatch of [(await ben.get(path)).headers.get("etag") ?? "", '"other"'])
    expect((await ben.request("PATCH", path, { title: "b" }, { "if-match": ifMatch })).status).toBe(403);
});

test("a new message changes the conversation's ETag", async () => {
  const path = `/conversations/${(await createConversation(parley, anna.account, [ben.account])).id}`;
  const tag = (await anna.get(path)).headers.get("etag") ?? "";
  await ben.request("POST", `${path}/messages`, { content: "in between", reply: false });
  expect((await anna.request("PATCH", path, { title: "a" }, { "if-match": tag })).status).toBe(412);
});

test("a route that changes a resource with an ETag can't be mounted without If-Match", () => {
  const common = { operationId: "x", summary: "x", tag: "operations", public: true, handle: () => {} } as const;
  const readRoute = route({ ...common, method: "GET", path: "/x/:id", isTagged: true });
  const otherRoute = route({ ...common, method: "PATCH", path: "/y/:id" });
  expect(() => requirePreconditions([readRoute, otherRoute])).not.toThrow();
  for (const method of ["PATCH", "PUT", "DELETE"] as const) {
    const change = route({ ...common, method, path: "/x/:id" });
    expect(() => requirePreconditions([readRoute, change])).toThrow("takesIfMatch");
    expect(() => requirePreconditions([readRoute, { ...change, takesIfMatch: true }])).not.toThrow();
  }
});
