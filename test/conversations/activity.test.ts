import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createId } from "../../src/lib/id.ts";
import type { Conversation } from "../../src/protocol/conversation.ts";
import { startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { createRestClient, type RestClient } from "../support/rest.ts";
import { waitUntil } from "../support/wait-until.ts";

let parley: TestApp;

beforeAll(async () => {
  parley = await startApp();
});
afterAll(() => parley.stop());

const createUser = async () => createRestClient(parley, await parley.register());

/** Backdates the conversation's activity. */
async function backdateActivity(id: string, minutes: number): Promise<void> {
  await parley.database`
    update conversations set updated_at = now() - ${minutes} * interval '1 minute', listed_at = now() - ${minutes} * interval '1 minute'
    where id = ${id}`;
  await parley.database`
    update member_activity set active_at = (select listed_at from conversations where id = ${id}) where conversation_id = ${id}`;
}

async function createConversations(user: RestClient, count: number): Promise<string[]> {
  const ids: string[] = [];
  for (let n = 0; n < count; n += 1) {
    const { id } = await createConversation(parley, user.account);
    await backdateActivity(id, 1_000 - n);
    ids.unshift(id);
  }
  return ids;
}

const sendMessage = (user: RestClient, id: string) =>
  user.request("POST", `/conversations/${id}/messages`, { content: "x", reply: false });
const listIds = async (user: RestClient, limit: number) =>
  (await user.listAll<Conversation>("/conversations", limit)).rows.map(({ id }) => id);

describe("the order of the conversation list", () => {
  test("is correct immediately, in pages of any size", async () => {
    const anna = await createUser();
    const ids = await createConversations(anna, 12);
    const expectedIds = [...ids];
    const moveToTop = (id: string) => expectedIds.unshift(...expectedIds.splice(expectedIds.indexOf(id), 1));
    for (const index of [11, 5, 11, 0, 7, 5, 5, 9, 11]) {
      const id = ids[index] ?? "";
      await sendMessage(anna, id);
      moveToTop(id);
      for (const limit of [1, 2, 5, 50]) expect(await listIds(anna, limit)).toEqual(expectedIds);
    }
  });

  test("isn't updated for a conversation that was active in the last minute", async () => {
    const anna = await createUser();
    const [id = ""] = await createConversations(anna, 1);
    const findRow = async () => {
      const [row] = await parley.database<{ place: string; active: string; updated: string }[]>`
        select a.ctid::text as place, a.active_at::text as active, c.updated_at::text as updated
        from member_activity a join conversations c on c.id = a.conversation_id where a.conversation_id = ${id}`;
      return row;
    };
    await sendMessage(anna, id);
    const rowBefore = await findRow();
    expect(rowBefore?.active).toBe(rowBefore?.updated as string);
    await sendMessage(anna, id);
    await sendMessage(anna, id);
    const rowAfter = await findRow();
    expect({ place: rowAfter?.place, active: rowAfter?.active }).toEqual({
      place: rowBefore?.place,
      active: rowBefore?.active,
    } as never);
    expect(rowAfter?.updated).not.toBe(rowBefore?.updated as string);
  });

  test("is correct immediately even in a large group, whose rows a job updates", async () => {
    const anna = await createUser();
    const ids = await createConversations(anna, 4);
    const largeId = ids[3] ?? "";
    const userIds = Array.from({ length: 1_200 }, () => createId());
    await parley.database`
      insert into users (id, email, email_key, display_name)
      select id, id || '@x.test', id || '@x.test', 'Somebody' from unnest(${userIds}::uuid[]) id`;
    await parley.database`
      insert into members (conversation_id, user_id, role) select ${largeId}, id, 'member' from unnest(${userIds}::uuid[]) id`;
    const countOutdated = async () => {
      const [row] = await parley.database<{ count: number }[]>`
        select count(*)::int as count from member_activity a join conversations c on c.id = a.conversation_id
        where c.id = ${largeId} and a.active_at < c.listed_at`;
      return row?.count;
    };
    expect(await countOutdated()).toBe(0);
    await sendMessage(anna, largeId);
    expect(await listIds(anna, 2)).toEqual([largeId, ...ids.slice(0, 3)]);
    await waitUntil(async () => (await countOutdated()) === 0);
    await waitUntil(async () => (await parley.database`select 1 from activity_moves`).length === 0);
    expect(await listIds(anna, 2)).toEqual([largeId, ...ids.slice(0, 3)]);
  });

  test("isn't changed by a job that runs late", async () => {
    const anna = await createUser();
    const [id = "", otherId = ""] = await createConversations(anna, 2);
    await sendMessage(anna, otherId);
    await parley.database`
      insert into activity_moves (conversation_id, at) values (${otherId}, now() - interval '5 minutes'), (${id}, now())`;
    await waitUntil(async () => (await parley.database`select 1 from activity_moves`).length === 0);
    const [row] = await parley.database<{ active: string; listed: string }[]>`
      select a.active_at::text as active, c.listed_at::text as listed
      from member_activity a join conversations c on c.id = a.conversation_id where c.id = ${otherId}`;
    expect(row?.active).toBe(row?.listed as string);
  });

  test("is stored immediately for a limited number of rows, and a job stores the rest", async () => {
    const anna = await createUser();
    const ids = await createConversations(anna, 60);
    const userIds = Array.from({ length: 45 }, () => createId());
    await parley.database`
      insert into users (id, email, email_key, display_name)
      select id, id || '@y.test', id || '@y.test', 'Somebody' from unnest(${userIds}::uuid[]) id`;
    await parley.database`
      insert into members (conversation_id, user_id, role)
      select c, u, 'member' from unnest(${ids}::uuid[]) c, unnest(${userIds}::uuid[]) u`;
    const queuedCount = await parley.database.begin(async (sql) => {
      await sql`select take_positions(${ids}::uuid[], ${ids.map(() => 1)}::int[], ${ids.map(() => 1)}::int[])`;
      return (await sql`select 1 from activity_moves`).length;
    });
    // Each conversation has 46 rows, so the limit is reached after 43.
    expect(queuedCount).toBe(17);
    const [firstId] = await listIds(anna, 60);
    expect(ids).toContain(firstId as string);
    expect(new Set(await listIds(anna, 7))).toEqual(new Set(ids));
  });

  test("includes a conversation from the time the user joins it until they leave it", async () => {
    const [anna, ben] = [await createUser(), await createUser()];
    const [id = ""] = await createConversations(anna, 1);
    const benIds = await createConversations(ben, 2);
    await anna.request("POST", `/conversations/${id}/members`, { user_id: ben.id });
    expect(await listIds(ben, 1)).toEqual([id, ...benIds]);
    await ben.request("DELETE", `/conversations/${id}/members/${ben.id}`);
    expect(await listIds(ben, 1)).toEqual(benIds);
    expect(await parley.database`select 1 from member_activity where user_id = ${ben.id}`).toHaveLength(2);
  });
});
