import { afterAll, beforeAll, expect, test } from "bun:test";
import { bundledSql, migrate } from "../../src/db/migrate.ts";
import { createId } from "../../src/lib/id.ts";
import type { Conversation } from "../../src/protocol/conversation.ts";
import { startApp, type TestApp } from "../support/app.ts";
import { silentLog } from "../support/log.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { createRestClient, type RestClient } from "../support/rest.ts";

/** The migration that adds the settings. */
const SETTINGS_MIGRATION = "0014_conversation_settings.sql";

let parley: TestApp;
let anna: RestClient;
beforeAll(async () => {
  // These tests change the database directly, which the read cache wouldn't notice.
  parley = await startApp({ config: { READ_CACHE: "off" } });
  anna = createRestClient(parley, await parley.register());
});
afterAll(() => parley.stop());

/** Runs the statements of the previous release, which stores settings in the metadata. */
const olderInstance = {
  async createConversation(metadata: Record<string, unknown>): Promise<string> {
    const id = createId();
    await parley.database`
      with created as (
        insert into conversations (id, title, kind, reply_mode, metadata)
        values (${id}, 'Old', 'direct', 'always', ${parley.database.json(metadata as never)}) returning id
      )
      insert into members (conversation_id, user_id, role) select id, ${anna.id}, 'owner' from created`;
    return id;
  },
  changeMetadata: (id: string, metadata: Record<string, unknown>) => parley.database`
    update conversations set metadata = ${parley.database.json(metadata as never)} where id = ${id}`,
  /** Reads the settings that an answer uses. */
  async readSettings(id: string): Promise<{ documents: boolean; tools: boolean }> {
    const [row] = await parley.database<{ found: { metadata: Record<string, unknown> } }[]>`
      select read_answer_context(${id}, ${anna.id}, null, 10, 1000) as found`;
    const { documents, tools } = row?.found.metadata ?? {};
    return { documents: documents === true, tools: tools === true };
  },
};

async function fetchSettings(id: string) {
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
])("an older instance's metadata %j determines a new conversation's settings", async (metadata, settings) => {
  const id = await olderInstance.createConversation(metadata);
  expect(await fetchSettings(id)).toEqual({ ...settings, metadata } as never);
  expect(await olderInstance.readSettings(id)).toEqual(settings);
});

test("older instances can change a setting in the metadata until a client sets the setting's field", async () => {
  const id = await olderInstance.createConversation({});
  await olderInstance.changeMetadata(id, { documents: true });
  expect(await fetchSettings(id)).toMatchObject({ documents: true, tools: false });
  await anna.request("PATCH", `/conversations/${id}`, { documents: false });
  await olderInstance.changeMetadata(id, { documents: true, tools: true });
  expect(await fetchSettings(id)).toMatchObject({ documents: false, tools: true });
  expect(await olderInstance.readSettings(id)).toEqual({ documents: false, tools: true });
});

test("changing the metadata doesn't affect settings that an older instance has set", async () => {
  const id = await olderInstance.createConversation({ documents: true, tools: true });
  const { body } = await anna.request<Conversation>("PATCH", `/conversations/${id}`, { metadata: { own: 1 } });
  expect(body).toMatchObject({ documents: true, tools: true, metadata: { own: 1 } });
  // From then on, the metadata doesn't affect the settings.
  await anna.request("PATCH", `/conversations/${id}`, { metadata: { documents: false, tools: false } });
  expect(await fetchSettings(id)).toMatchObject({ documents: true, tools: true });
});

test("older instances read the settings of newer ones, but treat a list of tools as no tools", async () => {
  const { body } = await anna.request<Conversation>("POST", "/conversations", { documents: true, tools: true });
  expect(await olderInstance.readSettings(body.id)).toEqual({ documents: true, tools: true });
  await anna.request("PATCH", `/conversations/${body.id}`, { tools: ["search_documents"], metadata: { tools: true } });
  expect(await olderInstance.readSettings(body.id)).toEqual({ documents: true, tools: false });
});

test("conversations stored before the upgrade keep their settings", async () => {
  const testDatabase = await createTestDatabase(10);
  const { database } = testDatabase;
  await database`drop schema public cascade`;
  await database`create schema public`;
  const migrations = bundledSql.migrations.filter(({ name }) => name < SETTINGS_MIGRATION);
  await migrate(database, silentLog, { sources: { migrations, functions: [], functionsRevision: 0 } });
  const [userId, withSettingsId, withoutSettingsId] = [createId(), createId(), createId()];
  await database`insert into users (id, email, email_key, display_name) values (${userId}, 'old', 'old', 'Old')`;
  await database`
    insert into conversations (id, kind, reply_mode, metadata) values
      (${withSettingsId}, 'group', 'never', '{"documents": true, "tools": true, "own": 1}'), (${withoutSettingsId}, 'group', 'never', '{"own": 2}')`;
  await database`
    insert into members (conversation_id, user_id, role) values (${withSettingsId}, ${userId}, 'owner'), (${withoutSettingsId}, ${userId}, 'owner')`;

  await migrate(database, silentLog);
  const upgradedApp = await startApp({ database: testDatabase, isAlone: true });
  const member = createRestClient(upgradedApp, await upgradedApp.register());
  await database`
    insert into members (conversation_id, user_id, role) values (${withSettingsId}, ${member.id}, 'owner'), (${withoutSettingsId}, ${member.id}, 'owner')`;
  const fetchConversation = async (id: string) => (await member.get<Conversation>(`/conversations/${id}`)).body;
  const expected = {
    documents: true,
    tools: true,
    reasoning_effort: null,
    metadata: { documents: true, tools: true, own: 1 },
  };
  expect(await fetchConversation(withSettingsId)).toMatchObject(expected);
  expect(await fetchConversation(withoutSettingsId)).toMatchObject({
    documents: false,
    tools: false,
    metadata: { own: 2 },
  });
  const { body } = await member.request<Conversation>("PATCH", `/conversations/${withSettingsId}`, { metadata: {} });
  expect(body).toMatchObject({ documents: true, tools: true, metadata: {} });
  await upgradedApp.stop();
  await database.end({ timeout: 1 });
});
