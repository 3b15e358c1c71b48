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

const call = (
  path: string,
  token: string,
  options: { method?: string; json?: unknown; headers?: Record<string, string> } = {},
) => parley.fetch(`/api/v1/prompts${path}`, { token, ...options });
const read = async <T>(pending: Promise<Response>): Promise<T & { status: number }> => {
  const response = await pending;
  return { ...((await response.json()) as T), status: response.status };
};
const create = async (json: unknown, account = anna): Promise<Prompt> => {
  const response = await call("", account.access_token, { json });
  expect(response.status).toBe(201);
  return (await response.json()) as Prompt;
};

describe("prompts", () => {
  test("can be created, read with an ETag, listed newest first, renamed and deleted", async () => {
    const created = await create({ name: "Helper", template: "Help {{user.display_name}}." });
    expect(created).toMatchObject({
      name: "Helper",
      template: "Help {{user.display_name}}.",
      version: 1,
      is_default: false,
    });
    const response = await call(`/${created.id}`, anna.access_token);
    const etag = response.headers.get("etag") ?? "";
    expect(await response.json()).toEqual(created as never);
    const unchanged = await call(`/${created.id}`, anna.access_token, { headers: { "if-none-match": etag } });
    expect(unchanged.status).toBe(304);
    const other = await create({ name: "Other", template: "x" });
    const page = await read<{ data: Prompt[]; next_cursor: string }>(call("?limit=1", anna.access_token));
    expect(page.data.map(({ id }) => id)).toEqual([other.id]);
    const next = await read<{ data: Prompt[] }>(call(`?limit=1&cursor=${page.next_cursor}`, anna.access_token));
    expect(next.data.map(({ id }) => id)).toEqual([created.id]);
    const renamed = await read<Prompt>(
      call(`/${created.id}`, anna.access_token, { method: "PATCH", json: { name: "New" } }),
    );
    expect(renamed).toMatchObject({ status: 200, name: "New", version: 1 });
    const changed = await call(`/${created.id}`, anna.access_token, { headers: { "if-none-match": etag } });
    expect(changed.status).toBe(200);
    expect((await call(`/${created.id}`, anna.access_token, { method: "DELETE" })).status).toBe(204);
    expect((await call(`/${created.id}`, anna.access_token)).status).toBe(404);
  });

  test("keep every version of their template", async () => {
    const { id } = await create({ name: "Versions", template: "one" });
    const patch = (template: string) =>
      read<Prompt>(call(`/${id}`, anna.access_token, { method: "PATCH", json: { template } }));
    expect(await patch("two")).toMatchObject({ version: 2, template: "two" });
    expect(await patch("two")).toMatchObject({ version: 2 });
    expect(await patch("three")).toMatchObject({ version: 3 });
    const versions = await read<{ data: { version: number; template: string }[] }>(
      call(`/${id}/versions`, anna.access_token),
    );
    expect(versions.data.map(({ version, template }) => [version, template])).toEqual([
      [3, "three"],
      [2, "two"],
      [1, "one"],
    ]);
    const page = await read<{ data: { version: number }[]; next_cursor: string }>(
      call(`/${id}/versions?limit=2`, anna.access_token),
    );
    const rest = await read<{ data: { version: number }[] }>(
      call(`/${id}/versions?limit=2&cursor=${page.next_cursor}`, anna.access_token),
    );
    expect(rest.data.map(({ version }) => version)).toEqual([1]);
  });

  test("lose no versions in concurrent changes", async () => {
    const { id } = await create({ name: "Race", template: "0" });
    const changes = Array.from({ length: 8 }, (_, n) =>
      call(`/${id}`, anna.access_token, { method: "PATCH", json: { template: `t${n}` } }),
    );
    expect((await Promise.all(changes)).map(({ status }) => status)).toEqual(Array(8).fill(200));
    expect(await read<Prompt>(call(`/${id}`, anna.access_token))).toMatchObject({ version: 9 });
  });

  test("include one default, which new conversations use", async () => {
    const ben = await parley.register();
    const first = await create({ name: "A", template: "a", is_default: true }, ben);
    const second = await create({ name: "B", template: "b", is_default: true }, ben);
    const list = await read<{ data: Prompt[] }>(call("", ben.access_token));
    expect(list.data.map(({ id, is_default }) => [id, is_default])).toEqual([
      [second.id, true],
      [first.id, false],
    ]);
    expect((await createConversation(parley, ben)).prompt_id).toBe(second.id);
    expect((await createConversation(parley, ben, [], { prompt_id: first.id })).prompt_id).toBe(first.id);
    expect((await createConversation(parley, ben, [], { prompt_id: null })).prompt_id).toBeNull();
    await call(`/${first.id}`, ben.access_token, { method: "PATCH", json: { is_default: true } });
    expect((await createConversation(parley, ben)).prompt_id).toBe(first.id);
    await call(`/${first.id}`, ben.access_token, { method: "PATCH", json: { is_default: false } });
    expect((await createConversation(parley, ben)).prompt_id).toBeNull();
  });

  test("can be set on a conversation, and are removed from it when deleted", async () => {
    const { id } = await create({ name: "Chosen", template: "x" });
    const conversation = await createConversation(parley, anna);
    const path = `/api/v1/conversations/${conversation.id}`;
    const patch = (account: Account, prompt_id: string | null) =>
      parley.fetch(path, { method: "PATCH", token: account.access_token, json: { prompt_id } });
    expect(await (await patch(anna, id)).json()).toMatchObject({ prompt_id: id });
    const otherPrompt = await create({ name: "Other", template: "x" }, outsider);
    for (const refused of [
      await patch(anna, otherPrompt.id),
      await parley.fetch("/api/v1/conversations", { token: anna.access_token, json: { prompt_id: otherPrompt.id } }),
    ]) {
      const problem = (await refused.json()) as ProblemBody;
      expect(problem).toMatchObject({ status: 422, code: "invalid", errors: [{ pointer: "#/prompt_id" }] });
    }
    expect((await call(`/${id}`, anna.access_token, { method: "DELETE" })).status).toBe(204);
    expect(await (await parley.fetch(path, { token: anna.access_token })).json()).toMatchObject({ prompt_id: null });
  });

  test("are invisible to other users", async () => {
    const { id } = await create({ name: "Secret", template: "secret" });
    const attempts: [string, { method?: string; json?: unknown }][] = [
      [`/${id}`, {}],
      [`/${id}`, { method: "PATCH", json: { name: "mine" } }],
      [`/${id}`, { method: "DELETE" }],
      [`/${id}/versions`, {}],
      [`/${id}/preview`, { method: "POST", json: {} }],
    ];
    for (const [path, options] of attempts) {
      expect((await call(path, outsider.access_token, options)).status).toBe(404);
      expect((await parley.fetch(`/api/v1/prompts${path}`, options)).status).toBe(401);
    }
    const list = await read<{ data: Prompt[] }>(call("", outsider.access_token));
    expect(JSON.stringify(list)).not.toContain("secret");
    expect(await read<Prompt>(call(`/${id}`, anna.access_token))).toMatchObject({ name: "Secret" });
  });

  test("are part of their owner's export, with all versions", async () => {
    const carl = await parley.register();
    const { id } = await create({ name: "Mine", template: "old" }, carl);
    await call(`/${id}`, carl.access_token, { method: "PATCH", json: { template: "new" } });
    const readExport = async (account: Account) =>
      (await (await parley.fetch("/api/v1/me/export", { token: account.access_token })).json()) as Record<
        string,
        unknown
      >;
    const exported = await readExport(carl);
    expect(exported.prompts).toMatchObject([{ id, name: "Mine", version: 2 }]);
    expect(exported.prompt_versions).toMatchObject([
      { prompt_id: id, version: 2, template: "new" },
      { prompt_id: id, version: 1, template: "old" },
    ]);
    expect(JSON.stringify(await readExport(outsider))).not.toContain(id);
  });

  const invalid: [string, unknown, number, string | undefined][] = [
    ["with an unknown variable", { name: "x", template: "Hi {{user.password}}" }, 422, "#/template"],
    ["with an open brace", { name: "x", template: "Hi {{user.display_name" }, 422, "#/template"],
    ["with code in braces", { name: "x", template: "{{constructor.constructor('1')()}}" }, 422, "#/template"],
    ["without a template", { name: "x" }, 422, "#/template"],
    ["without a name", { name: "", template: "x" }, 422, "#/name"],
    ["with an unknown field", { name: "x", template: "x", user_id: "y" }, 422, "#/user_id"],
    ["that are too long", { name: "x", template: "x".repeat(32_001) }, 422, "#/template"],
    ["of 2 MB", { name: "x", template: "x".repeat(2_000_000) }, 413, undefined],
  ];
  test.each(invalid)("%s are refused", async (_name, json, status, pointer) => {
    const problem = await read<ProblemBody>(call("", anna.access_token, { json }));
    expect(problem.status).toBe(status);
    if (pointer) expect(problem.errors?.[0]?.pointer).toBe(pointer);
  });

  test("can't be changed to a template with an unknown variable", async () => {
    const { id } = await create({ name: "Good", template: "good" });
    const refused = await call(`/${id}`, anna.access_token, { method: "PATCH", json: { template: "{{nothing}}" } });
    expect(refused.status).toBe(422);
    expect(await read<Prompt>(call(`/${id}`, anna.access_token))).toMatchObject({ template: "good", version: 1 });
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
    const { id } = await create({ name: "All", template });
    const before = Date.now();
    const preview = await read<{ system: string; messages: unknown[]; input_tokens: number }>(
      call(`/${id}/preview`, anna.access_token, { json: {} }),
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
    const localTime = new Date(before + 14 * 3_600_000).toISOString();
    expect(clock).toStartWith(localTime.slice(0, 10));
    expect(clock).toMatch(/^\d{4}-\d\d-\d\d \d\d:\d\d \w+day$/);
    expect(preview.messages).toEqual([]);
    expect(preview.input_tokens).toBeGreaterThan(10);
    expect((await call(`/${id}/preview`, anna.access_token, { method: "POST" })).status).toBe(200);
  });

  test("of a conversation is available only to its members", async () => {
    const { id } = await create({ name: "Mine", template: "x" });
    const otherConversation = await createConversation(parley, outsider);
    const refused = await call(`/${id}/preview`, anna.access_token, {
      json: { conversation_id: otherConversation.id },
    });
    expect(refused.status).toBe(404);
  });
});
