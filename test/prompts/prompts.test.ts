import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";

type Prompt = { id: string; name: string; template: string; version: number; is_default: boolean };
type ProblemBody = { status: number; code: string; errors?: { pointer: string; detail: string }[] };

let parley: TestApp;
let anna: Account;
let outsider: Account;

beforeAll(async () => {
  parley = await startApp();
  anna = await parley.register(undefined, "Anna");
  outsider = await parley.register();
});
afterAll(() => parley.stop());

const requestPrompts = (
  path: string,
  token: string,
  options: { method?: string; json?: unknown; headers?: Record<string, string> } = {},
) => parley.fetch(`/api/v1/prompts${path}`, { token, ...options });
const parseResponse = async <T>(pending: Promise<Response>): Promise<T & { status: number }> => {
  const response = await pending;
  return { ...((await response.json()) as T), status: response.status };
};
const createPrompt = async (json: unknown, account = anna): Promise<Prompt> => {
  const response = await requestPrompts("", account.access_token, { json });
  expect(response.status).toBe(201);
  return (await response.json()) as Prompt;
};

describe("prompts", () => {
  test("can be created, read with an ETag, listed newest first, renamed and deleted", async () => {
    const createdPrompt = await createPrompt({ name: "Helper", template: "Help {{user.display_name}}." });
    expect(createdPrompt).toMatchObject({
      name: "Helper",
      template: "Help {{user.display_name}}.",
      version: 1,
      is_default: false,
    });
    const response = await requestPrompts(`/${createdPrompt.id}`, anna.access_token);
    const etag = response.headers.get("etag") ?? "";
    expect(await response.json()).toEqual(createdPrompt as never);
    const unchangedResponse = await requestPrompts(`/${createdPrompt.id}`, anna.access_token, {
      headers: { "if-none-match": etag },
    });
    expect(unchangedResponse.status).toBe(304);
    const otherPrompt = await createPrompt({ name: "Other", template: "x" });
    const page = await parseResponse<{ data: Prompt[]; next_cursor: string }>(
      requestPrompts("?limit=1", anna.access_token),
    );
    expect(page.data.map(({ id }) => id)).toEqual([otherPrompt.id]);
    const nextPage = await parseResponse<{ data: Prompt[] }>(
      requestPrompts(`?limit=1&cursor=${page.next_cursor}`, anna.access_token),
    );
    expect(nextPage.data.map(({ id }) => id)).toEqual([createdPrompt.id]);
    const renamedPrompt = await parseResponse<Prompt>(
      requestPrompts(`/${createdPrompt.id}`, anna.access_token, { method: "PATCH", json: { name: "New" } }),
    );
    expect(renamedPrompt).toMatchObject({ status: 200, name: "New", version: 1 });
    const changedResponse = await requestPrompts(`/${createdPrompt.id}`, anna.access_token, {
      headers: { "if-none-match": etag },
    });
    expect(changedResponse.status).toBe(200);
    expect((await requestPrompts(`/${createdPrompt.id}`, anna.access_token, { method: "DELETE" })).status).toBe(204);
    expect((await requestPrompts(`/${createdPrompt.id}`, anna.access_token)).status).toBe(404);
  });

  test("keep every version of their template", async () => {
    const { id } = await createPrompt({ name: "Versions", template: "one" });
    const changeTemplate = (template: string) =>
      parseResponse<Prompt>(requestPrompts(`/${id}`, anna.access_token, { method: "PATCH", json: { template } }));
    expect(await changeTemplate("two")).toMatchObject({ version: 2, template: "two" });
    expect(await changeTemplate("two")).toMatchObject({ version: 2 });
    expect(await changeTemplate("three")).toMatchObject({ version: 3 });
    const versions = await parseResponse<{ data: { version: number; template: string }[] }>(
      requestPrompts(`/${id}/versions`, anna.access_token),
    );
    expect(versions.data.map(({ version, template }) => [version, template])).toEqual([
      [3, "three"],
      [2, "two"],
      [1, "one"],
    ]);
    const page = await parseResponse<{ data: { version: number }[]; next_cursor: string }>(
      requestPrompts(`/${id}/versions?limit=2`, anna.access_token),
    );
    const lastPage = await parseResponse<{ data: { version: number }[] }>(
      requestPrompts(`/${id}/versions?limit=2&cursor=${page.next_cursor}`, anna.access_token),
    );
    expect(lastPage.data.map(({ version }) => version)).toEqual([1]);
  });

  test("lose no versions in concurrent changes", async () => {
    const { id } = await createPrompt({ name: "Race", template: "0" });
    const changes = Array.from({ length: 8 }, (_, n) =>
      requestPrompts(`/${id}`, anna.access_token, { method: "PATCH", json: { template: `t${n}` } }),
    );
    expect((await Promise.all(changes)).map(({ status }) => status)).toEqual(Array(8).fill(200));
    expect(await parseResponse<Prompt>(requestPrompts(`/${id}`, anna.access_token))).toMatchObject({ version: 9 });
  });

  test("include one default, which new conversations use", async () => {
    const ben = await parley.register();
    const firstPrompt = await createPrompt({ name: "A", template: "a", is_default: true }, ben);
    const secondPrompt = await createPrompt({ name: "B", template: "b", is_default: true }, ben);
    const list = await parseResponse<{ data: Prompt[] }>(requestPrompts("", ben.access_token));
    expect(list.data.map(({ id, is_default }) => [id, is_default])).toEqual([
      [secondPrompt.id, true],
      [firstPrompt.id, false],
    ]);
    expect((await createConversation(parley, ben)).prompt_id).toBe(secondPrompt.id);
    expect((await createConversation(parley, ben, [], { prompt_id: firstPrompt.id })).prompt_id).toBe(firstPrompt.id);
    expect((await createConversation(parley, ben, [], { prompt_id: null })).prompt_id).toBeNull();
    await requestPrompts(`/${firstPrompt.id}`, ben.access_token, { method: "PATCH", json: { is_default: true } });
    expect((await createConversation(parley, ben)).prompt_id).toBe(firstPrompt.id);
    await requestPrompts(`/${firstPrompt.id}`, ben.access_token, { method: "PATCH", json: { is_default: false } });
    expect((await createConversation(parley, ben)).prompt_id).toBeNull();
  });

  test("can be set on a conversation, and are removed from it when deleted", async () => {
    const { id } = await createPrompt({ name: "Chosen", template: "x" });
    const conversation = await createConversation(parley, anna);
    const path = `/api/v1/conversations/${conversation.id}`;
    const setPrompt = (account: Account, prompt_id: string | null) =>
      parley.fetch(path, { method: "PATCH", token: account.access_token, json: { prompt_id } });
    expect(await (await setPrompt(anna, id)).json()).toMatchObject({ prompt_id: id });
    const otherPrompt = await createPrompt({ name: "Other", template: "x" }, outsider);
    for (const response of [
      await setPrompt(anna, otherPrompt.id),
      await parley.fetch("/api/v1/conversations", { token: anna.access_token, json: { prompt_id: otherPrompt.id } }),
    ]) {
      const problem = (await response.json()) as ProblemBody;
      expect(problem).toMatchObject({ status: 422, code: "invalid", errors: [{ pointer: "#/prompt_id" }] });
    }
    expect((await requestPrompts(`/${id}`, anna.access_token, { method: "DELETE" })).status).toBe(204);
    expect(await (await parley.fetch(path, { token: anna.access_token })).json()).toMatchObject({ prompt_id: null });
  });

  test("are invisible to other users", async () => {
    const { id } = await createPrompt({ name: "Secret", template: "secret" });
    const requests: [string, { method?: string; json?: unknown }][] = [
      [`/${id}`, {}],
      [`/${id}`, { method: "PATCH", json: { name: "mine" } }],
      [`/${id}`, { method: "DELETE" }],
      [`/${id}/versions`, {}],
      [`/${id}/preview`, { method: "POST", json: {} }],
    ];
    for (const [path, options] of requests) {
      expect((await requestPrompts(path, outsider.access_token, options)).status).toBe(404);
      expect((await parley.fetch(`/api/v1/prompts${path}`, options)).status).toBe(401);
    }
    const list = await parseResponse<{ data: Prompt[] }>(requestPrompts("", outsider.access_token));
    expect(JSON.stringify(list)).not.toContain("secret");
    expect(await parseResponse<Prompt>(requestPrompts(`/${id}`, anna.access_token))).toMatchObject({ name: "Secret" });
  });

  test("are part of their owner's export, with all versions", async () => {
    const carl = await parley.register();
    const { id } = await createPrompt({ name: "Mine", template: "old" }, carl);
    await requestPrompts(`/${id}`, carl.access_token, { method: "PATCH", json: { template: "new" } });
    const readExport = async (account: Account) =>
      (await (await parley.fetch("/api/v1/me/export", { token: account.access_token })).json()) as Record<
        string,
        unknown
      >;
    const exportedData = await readExport(carl);
    expect(exportedData.prompts).toMatchObject([{ id, name: "Mine", version: 2 }]);
    expect(exportedData.prompt_versions).toMatchObject([
      { prompt_id: id, version: 2, template: "new" },
      { prompt_id: id, version: 1, template: "old" },
    ]);
    expect(JSON.stringify(await readExport(outsider))).not.toContain(id);
  });

  const invalidPrompts: [string, unknown, number, string | undefined][] = [
    ["with an unknown variable", { name: "x", template: "Hi {{user.password}}" }, 422, "#/template"],
    ["with an open brace", { name: "x", template: "Hi {{user.display_name" }, 422, "#/template"],
    ["with code in braces", { name: "x", template: "{{constructor.constructor('1')()}}" }, 422, "#/template"],
    ["without a template", { name: "x" }, 422, "#/template"],
    ["without a name", { name: "", template: "x" }, 422, "#/name"],
    ["with an unknown field", { name: "x", template: "x", user_id: "y" }, 422, "#/user_id"],
    ["that are too long", { name: "x", template: "x".repeat(32_001) }, 422, "#/template"],
    ["of 2 MB", { name: "x", template: "x".repeat(2_000_000) }, 413, undefined],
  ];
  test.each(invalidPrompts)("%s are rejected", async (_name, json, status, pointer) => {
    const problem = await parseResponse<ProblemBody>(requestPrompts("", anna.access_token, { json }));
    expect(problem.status).toBe(status);
    if (pointer) expect(problem.errors?.[0]?.pointer).toBe(pointer);
  });

  test("can't be changed to a template with an unknown variable", async () => {
    const { id } = await createPrompt({ name: "Valid", template: "valid" });
    const response = await requestPrompts(`/${id}`, anna.access_token, {
      method: "PATCH",
      json: { template: "{{nothing}}" },
    });
    expect(response.status).toBe(422);
    expect(await parseResponse<Prompt>(requestPrompts(`/${id}`, anna.access_token))).toMatchObject({
      template: "valid",
      version: 1,
    });
  });
});

describe("a preview", () => {
  test("renders variables from the user, the preferences and the clock", async () => {
    await parley.fetch("/api/v1/me/preferences", {
      method: "PUT",
      token: anna.access_token,
      json: { tone: "dry {{date}}", nested: { list: [1, 2] }, timezone: "Pacific/Kiritimati" },
    });
    const template =
      "{{user.display_name}}|{{ preferences.tone }}|{{preferences.nested.list}}|{{preferences.absent.deep}}|" +
      "{{preferences.constructor.name}}|{{date}} {{time}} {{weekday}}|\\{{x}}|{{conversation.title}}";
    const { id } = await createPrompt({ name: "All", template });
    const startedAtMs = Date.now();
    const preview = await parseResponse<{ system: string; messages: unknown[]; input_tokens: number }>(
      requestPrompts(`/${id}/preview`, anna.access_token, { json: {} }),
    );
    const [name, tone, list, absent, inherited, clock, braces, title] = preview.system.split("|");
    expect([name, tone, list, absent, inherited, braces, title]).toEqual([
      "Anna",
      "dry {{date}}",
      "[1,2]",
      "",
      "",
      "{{x}}",
      "",
    ]);
    // The time zone is 14 hours ahead of UTC.
    const localTime = new Date(startedAtMs + 14 * 3_600_000).toISOString();
    expect(clock).toStartWith(localTime.slice(0, 10));
    expect(clock).toMatch(/^\d{4}-\d\d-\d\d \d\d:\d\d \w+day$/);
    expect(preview.messages).toEqual([]);
    expect(preview.input_tokens).toBeGreaterThan(10);
    expect((await requestPrompts(`/${id}/preview`, anna.access_token, { method: "POST" })).status).toBe(200);
  });

  test("of a conversation is available only to its members", async () => {
    const { id } = await createPrompt({ name: "Mine", template: "x" });
    const otherConversation = await createConversation(parley, outsider);
    const response = await requestPrompts(`/${id}/preview`, anna.access_token, {
      json: { conversation_id: otherConversation.id },
    });
    expect(response.status).toBe(404);
  });
});
