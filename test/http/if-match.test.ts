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

type ResourceKind = {
  /** @returns the path of the new resource. */
  create(): Promise<string>;
  createChange: (text: string) => object;
  getText: (body: unknown) => unknown;
};
const createResource = async (path: string, json: object) =>
  `${path}/${(await anna.request<{ id: string }>("POST", path, json)).body.id}`;

/** The kinds of resources that have an ETag and can be changed. */
const resourceKinds: Record<string, ResourceKind> = {
  conversation: {
    create: async () => `/conversations/${(await createConversation(parley, anna.account)).id}`,
    createChange: (title) => ({ title }),
    getText: (body) => (body as { title: string }).title,
  },
  prompt: {
    create: () => createResource("/prompts", { name: "P", template: "Hello." }),
    createChange: (template) => ({ template }),
    getText: (body) => (body as { template: string }).template,
  },
  webhook: {
    create: () => createResource("/webhooks", { url: "http://127.0.0.1:9/x", events: ["message.created"] }),
    createChange: (description) => ({ description }),
    getText: (body) => (body as { description: string }).description,
  },
};

describe.each(Object.keys(resourceKinds))("a %s", (name) => {
  const { create, createChange, getText } = resourceKinds[name] as ResourceKind;
  const getEtag = async (path: string) => (await anna.get(path)).headers.get("etag") ?? "";
  const changeResource = (path: string, text: string, ifMatch?: string, user = anna) =>
    user.request<{ code?: string }>(
      "PATCH",
      path,
      createChange(text),
      ifMatch === undefined ? undefined : { "if-match": ifMatch },
    );
  const deleteResource = (path: string, ifMatch: string, user = anna) =>
    user.request<{ code?: string }>("DELETE", path, undefined, { "if-match": ifMatch });

  test("is changed only if the ETag is current, and is returned with its new ETag", async () => {
    const path = await create();
    const etag = await getEtag(path);
    const changeResponse = await changeResource(path, "one", etag);
    expect(changeResponse.status).toBe(200);
    expect(changeResponse.headers.get("etag")).toBe(await getEtag(path));
    const staleResponse = await changeResource(path, "two", etag);
    expect(staleResponse).toMatchObject({ status: 412, body: { code: "precondition_failed" } });
    expect(getText((await anna.get(path)).body)).toBe("one");
    expect((await changeResource(path, "three", changeResponse.headers.get("etag") ?? "")).status).toBe(200);
    expect((await changeResource(path, "four")).status).toBe(200);
  });

  test("accepts exactly one of eight concurrent changes with the same ETag", async () => {
    const path = await create();
    const etag = await getEtag(path);
    const responses = await Promise.all(Array.from({ length: 8 }, (_, n) => changeResource(path, `change ${n}`, etag)));
    expect(responses.filter(({ status }) => status === 200)).toHaveLength(1);
    expect(responses.filter(({ status }) => status === 412)).toHaveLength(7);
    const acceptedIndex = responses.findIndex(({ status }) => status === 200);
    expect(getText((await anna.get(path)).body)).toBe(`change ${acceptedIndex}`);
  });

  test("accepts its ETag in a list, or `*`, but not a weak or unquoted ETag", async () => {
    const path = await create();
    let textCount = 0;
    const changeWith = async (createIfMatch: (etag: string) => string) =>
      (await changeResource(path, `text ${++textCount}`, createIfMatch(await getEtag(path)))).status;
    for (const createIfMatch of [
      (etag: string) => `"a,b", ${etag}`,
      (etag: string) => `W/"x" ,${etag},"y"`,
      () => " * ",
    ])
      expect(await changeWith(createIfMatch)).toBe(200);
    const invalidCreators = [
      (etag: string) => `W/${etag}`,
      (etag: string) => etag.slice(1, -1),
      (etag: string) => `"${etag}"`,
    ];
    for (const createIfMatch of [
      ...invalidCreators,
      () => "x",
      () => '"*"',
      () => `"${"x".repeat(5_000)}"`,
      () => '"x", *',
    ])
      expect(await changeWith(createIfMatch)).toBe(412);
  });

  test("can be deleted if the ETag is current", async () => {
    const path = await create();
    const etag = await getEtag(path);
    await changeResource(path, "changed");
    expect(await deleteResource(path, etag)).toMatchObject({ status: 412, body: { code: "precondition_failed" } });
    expect((await anna.get(path)).status).toBe(200);
    expect((await deleteResource(path, await getEtag(path))).status).toBe(204);
    expect((await deleteResource(path, "*")).status).toBe(404);
  });

  test("accepts a change or a concurrent deletion with the same ETag, but not both", async () => {
    const path = await create();
    const etag = await getEtag(path);
    const [changeResponse, deletionResponse] = await Promise.all([
      changeResource(path, "one", etag),
      deleteResource(path, etag),
    ]);
    const statuses = [changeResponse.status, deletionResponse.status];
    // The change either succeeds before the deletion or fails after it.
    expect([
      [200, 412],
      [404, 204],
      [412, 204],
    ]).toContainEqual(statuses);
  });

  test("doesn't exist for outsiders, who receive 404 regardless of the ETag", async () => {
    const path = await create();
    for (const ifMatch of [await getEtag(path), '"other"', "*"]) {
      expect((await changeResource(path, "theirs", ifMatch, ben)).status).toBe(404);
      expect((await deleteResource(path, ifMatch, ben)).status).toBe(404);
    }
  });

  test("rejects invalid input even if the ETag is outdated", async () => {
    const path = await create();
    const response = await anna.request("PATCH", path, { nothing: 1 }, { "if-match": '"other"' });
    expect(response.status).toBe(422);
  });
});

test("a member who isn't an owner receives 403 regardless of the ETag", async () => {
  const path = `/conversations/${(await createConversation(parley, anna.account, [ben.account])).id}`;
  for (const ifMatch of [(await ben.get(path)).headers.get("etag") ?? "", '"other"'])
    expect((await ben.request("PATCH", path, { title: "b" }, { "if-match": ifMatch })).status).toBe(403);
});

test("a new message changes the conversation's ETag", async () => {
  const path = `/conversations/${(await createConversation(parley, anna.account, [ben.account])).id}`;
  const etag = (await anna.get(path)).headers.get("etag") ?? "";
  await ben.request("POST", `${path}/messages`, { content: "a new message", reply: false });
  expect((await anna.request("PATCH", path, { title: "a" }, { "if-match": etag })).status).toBe(412);
});

test("a route that changes a resource with an ETag can't be mounted without If-Match", () => {
  const commonFields = { operationId: "x", summary: "x", tag: "operations", public: true, handle: () => {} } as const;
  const readRoute = route({ ...commonFields, method: "GET", path: "/x/:id", isTagged: true });
  const otherRoute = route({ ...commonFields, method: "PATCH", path: "/y/:id" });
  expect(() => requirePreconditions([readRoute, otherRoute])).not.toThrow();
  for (const method of ["PATCH", "PUT", "DELETE"] as const) {
    const changeRoute = route({ ...commonFields, method, path: "/x/:id" });
    expect(() => requirePreconditions([readRoute, changeRoute])).toThrow("supportsIfMatch");
    expect(() => requirePreconditions([readRoute, { ...changeRoute, supportsIfMatch: true }])).not.toThrow();
  }
});
