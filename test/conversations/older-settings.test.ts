import { afterAll, beforeAll, expect, test } from "bun:test";
import { bundledSql, migrate } from "../../src/db/migrate.ts";
import { createId } from "../../src/lib/id.ts";
import type { Conversation } from "../../src/protocol/conversation.ts";
import { startApp, type TestApp } from "../support/app.ts";
import { silentLog } from "../support/log.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { createRest, type Rest } from "../support/rest.ts";

/** The first migration of the fields. */
const FIRST = "0014_conversation_settings.sql";

let parley: TestApp;
let anna: Rest;
beforeAll(async () => {
  // The test changes the database directly.
  parley = await startApp({ config: { READ_CACHE: "off" } });
  anna = createRest(parley, await parley.register());
});
afterAll(() => parley.stop());

/** The statements of the previous release, which has no settings columns. */
const older = {
  async create(metadata: Record<string, unknown>): Promise<string> {
    const id = createId();
    await parley.database`
      with made as (
        insert into conversations (id, title, kind, reply_mode, metadata)
        values (${id}, 'Old', 'direct', 'always', ${parley.database.json(metadata as never)}) returning id
      )
      insert into members (conversation_id, user_id, role) select id, ${anna.id}, 'owner' from made`;
    return id;
  },
  change: (id: string, metadata: Record<string, unknown>) => parley.database`
    update conversations set metadata = ${parley.database.json(metadata as never)} where id = ${id}`,
  /** The query for an answer's settings. */
  async read(id: string): Promise<{ documents: boolean; tools: boolean }> {
    const [row] = await parley.database<{ found: { metadata: Record<string, unknown> } }[]>`
      select read_answer_context(${id}, ${anna.id}, null, 10, 1000) as found`;
    const { documents, tools } = row?.found.metadata ?? {};
    return { documents: documents === true, tools: tools === true };
  },
};

async function findSettings(id: string) {
  const { documents, tools, metadata } = (await anna.get<Conversation>(`/conversations/${id}`)).body;
  return { documents, tools, metadata };
}

test.each([
  [{}, { documents: false, tools: false }],
  [{ documents: true }, { documents: true, tools: false }],
  [{ tools: true }, { documents: false, tools: true }],
  [
    { documents: true, tools: true, own: 1 },
    { documents: true, tools: true },
  ],
  [
    { documents: "true", tools: 1 },
    { documents: false, tools: false },
  ],
  [
    { documents: null, tools: ["x"] },
    { documents: false, tools: false },
  ],
])("of a conversation that an older instance creates with %j", async (metadata, settings) => {
  const id = await older.create(metadata);
  expect(await findSettings(id)).toEqual({ ...settings, metadata } as never);
  expect(await older.read(id)).toEqual(settings);
});

test("older instances set them in the metadata until a client sets the field itself", async () => {
  const id = await older.create({});
  await older.change(id, { documents: true });
  expect(await findSettings(id)).toMatchObject({ documents: true, tools: false });
  await anna.request("PATCH", `/conversations/${id}`, { documents: false });
  await older.change(id, { documents: true, tools: true });
  expect(await findSettings(id)).toMatchObject({ documents: false, tools: true });
  expect(await older.read(id)).toEqual({ documents: false, tools: true });
});

test("other metadata leaves the settings made by an older instance", async () => {
  const id = await older.create({ documents: true, tools: true });
  const { body } = await anna.request<Conversation>("PATCH", `/conversations/${id}`, { metadata: { own: 1 } });
  expect(body).toMatchObject({ documents: true, tools: true, metadata: { own: 1 } });
  // From then on, metadata no longer affects the settings.
  await anna.request("PATCH", `/conversations/${id}`, { metadata: { documents: false, tools: false } });
  expect(await findSettings(id)).toMatchObject({ documents: true, tools: true });
});

test("older instances return the settings of newer ones, except a list of tools, which they treat as none", async () => {
  const { body } = await anna.request<Conversation>("POST", "/conversations", { documents: true, tools: true });
  expect(await older.read(body.id)).toEqual({ documents: true, tools: true });
  await anna.request("PATCH", `/conversations/${body.id}`, { tools: ["search_documents"], metadata: { tools: true } });
  expect(await older.read(body.id)).toEqual({ documents: true, tools: false });
});

test("conversations stored before the upgrade keep their settings", async () => {
  const shared = await createTestDatabase(10);
  const { database } = shared;
  await database`drop schema public cascade`;
  await database`create schema public`;
  const migrations = bundledSql.migrations.filter(({ name }) => name < FIRST);
  await migrate(database, silentLog, { sources: { migrations, functions: [], functionsRevision: 0 } });
  const [userId, with_, without] = [createId(), createId(), createId()];
  await database`insert into users (id, email, email_key, display_name) values (${userId}, 'old', 'old', 'Old')`;
  await database`
    insert into conversations (id, kind, reply_mode, metadata) values
      (${with_}, 'group', 'never', '{"documents": true, "tools": true, "own": 1}'), (${without}, 'group', 'never', '{"own": 2}')`;
  await database`
    insert into members (conversation_id, user_id, role) values (${with_}, ${userId}, 'owner'), (${without}, ${userId}, 'owner')`;

  await migrate(database, silentLog);
  const upgraded = await startApp({ database: shared, isAlone: true });
  const member = createRest(upgraded, await upgraded.register());
  await database`
    insert into members (conversation_id, user_id, role) values (${with_}, ${member.id}, 'owner'), (${without}, ${member.id}, 'owner')`;
  const get = async (id: string) => (await member.get<Conversation>(`/conversations/${id}`)).body;
  const kept = {
    documents: true,
    tools: true,
    reasoning_effort: null,
    metadata: { documents: true, tools: true, own: 1 },
  };
  expect(await get(with_)).toMatchObject(kept);
  expect(await get(without)).toMatchObject({ documents: false, tools: false, metadata: { own: 2 } });
  const { body } = await member.request<Conversation>("PATCH", `/conversations/${with_}`, { metadata: {} });
  expect(body).toMatchObject({ documents: true, tools: true, metadata: {} });
  await upgraded.stop();
  await database.end({ timeout: 1 });
});
