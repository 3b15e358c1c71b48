import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createId } from "../../src/lib/id.ts";
import type { Conversation } from "../../src/protocol/conversation.ts";
import { startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { createRest, type Rest } from "../support/rest.ts";

let parley: TestApp;

beforeAll(async () => {
  parley = await startApp();
});
afterAll(() => parley.stop());

const createPerson = async () => createRest(parley, await parley.register());

/** Backdates the conversation's activity. */
async function backdate(id: string, minutes: number): Promise<void> {
  await parley.database`
    update conversations set updated_at = now() - ${minutes} * interval '1 minute', listed_at = now() - ${minutes} * interval '1 minute'
    where id = ${id}`;
  await parley.database`
    update member_activity set active_at = (select listed_at from conversations where id = ${id}) where conversation_id = ${id}`;
}

async function createMany(person: Rest, count: number): Promise<string[]> {
  const ids: string[] = [];
  for (let n = 0; n < count; n += 1) {
    const { id } = await createConversation(parley, person.account);
    await backdate(id, 1_000 - n);
    ids.unshift(id);
  }
  return ids;
}

async function waitUntil(isDone: () => Promise<boolean>): Promise<void> {
  const endsAtMs = performance.now() + 15_000;
  while (!(await isDone())) {
    if (performance.now() > endsAtMs) throw new Error("The condition was not met in time.");
    await Bun.sleep(50);
  }
}

const say = (person: Rest, id: string) =>
  person.request("POST", `/conversations/${id}/messages`, { content: "x", reply: false });
const listIds = async (person: Rest, limit: number) =>
  (await person.all<Conversation>("/conversations", limit)).rows.map(({ id }) => id);

describe("the order of the conversation list", () => {
  test("is correct immediately, after a long time and within a minute, in pages of any size", async () => {
    const anna = await createPerson();
    const ids = await createMany(anna, 12);
    const expected = [...ids];
    const moveToTop = (id: string) => expected.unshift(...expected.splice(expected.indexOf(id), 1));
    for (const index of [11, 5, 11, 0, 7, 5, 5, 9, 11]) {
      const id = ids[index] ?? "";
      await say(anna, id);
      moveToTop(id);
      for (const limit of [1, 2, 5, 50]) expect(await listIds(anna, limit)).toEqual(expected);
    }
  });

  test("writes no list rows for a conversation that was active in the last minute", async () => {
    const anna = await createPerson();
    const [id = ""] = await createMany(anna, 1);
    const findRow = async () => {
      const [row] = await parley.database<{ place: string; active: string; updated: string }[]>`
        select a.ctid::text as place, a.active_at::text as active, c.updated_at::text as updated
        from member_activity a join conversations c on c.id = a.conversation_id where a.conversation_id = ${id}`;
      return row;
    };
    await say(anna, id);
    const moved = await findRow();
    expect(moved?.active).toBe(moved?.updated as string);
    await say(anna, id);
    await say(anna, id);
    const later = await findRow();
    expect({ place: later?.place, active: later?.active }).toEqual({
      place: moved?.place,
      active: moved?.active,
    } as never);
    expect(later?.updated).not.toBe(moved?.updated as string);
  });

  test("is correct immediately with very many members, whose rows a job moves", async () => {
    const anna = await createPerson();
    const ids = await createMany(anna, 4);
    const large = ids[3] ?? "";
    const users = Array.from({ length: 1_200 }, () => createId());
    await parley.database`
      insert into users (id, email, email_key, display_name)
      select id, id || '@x.test', id || '@x.test', 'Somebody' from unnest(${users}::uuid[]) id`;
    await parley.database`
      insert into members (conversation_id, user_id, role) select ${large}, id, 'member' from unnest(${users}::uuid[]) id`;
    const countBehind = async () => {
      const [row] = await parley.database<{ count: number }[]>`
        select count(*)::int as count from member_activity a join conversations c on c.id = a.conversation_id
        where c.id = ${large} and a.active_at < c.listed_at`;
      return row?.count;
    };
    expect(await countBehind()).toBe(0);
    await say(anna, large);
    expect(await listIds(anna, 2)).toEqual([large, ...ids.slice(0, 3)]);
    await waitUntil(async () => (await countBehind()) === 0);
    await waitUntil(async () => (await parley.database`select 1 from activity_moves`).length === 0);
    expect(await listIds(anna, 2)).toEqual([large, ...ids.slice(0, 3)]);
  });

  test("isn't reset by a late job", async () => {
    const anna = await createPerson();
    const [id = "", other = ""] = await createMany(anna, 2);
    await say(anna, other);
    await parley.database`
      insert into activity_moves (conversation_id, at) values (${other}, now() - interval '5 minutes'), (${id}, now())`;
    await waitUntil(async () => (await parley.database`select 1 from activity_moves`).length === 0);
    const [row] = await parley.database<{ active: string; listed: string }[]>`
      select a.active_at::text as active, c.listed_at::text as listed
      from member_activity a join conversations c on c.id = a.conversation_id where c.id = ${other}`;
    expect(row?.active).toBe(row?.listed as string);
  });

  test("moves some thousand rows immediately, and leaves the rest to the job", async () => {
    const anna = await createPerson();
    const ids = await createMany(anna, 60);
    const users = Array.from({ length: 45 }, () => createId());
    await parley.database`
      insert into users (id, email, email_key, display_name)
      select id, id || '@y.test', id || '@y.test', 'Somebody' from unnest(${users}::uuid[]) id`;
    await parley.database`
      insert into members (conversation_id, user_id, role)
      select c, u, 'member' from unnest(${ids}::uuid[]) c, unnest(${users}::uuid[]) u`;
    const waiting = await parley.database.begin(async (sql) => {
      await sql`select take_positions(${ids}::uuid[], ${ids.map(() => 1)}::int[], ${ids.map(() => 1)}::int[])`;
      return (await sql`select 1 from activity_moves`).length;
    });
    // 46 rows each: the limit is reached with 43 conversations.
    expect(waiting).toBe(17);
    const [first] = await listIds(anna, 60);
    expect(ids).toContain(first as string);
    expect(new Set(await listIds(anna, 7))).toEqual(new Set(ids));
  });

  test("lists a conversation at the same position for a new member, and not after they left", async () => {
    const [anna, ben] = [await createPerson(), await createPerson()];
    const [id = ""] = await createMany(anna, 1);
    const own = await createMany(ben, 2);
    await anna.request("POST", `/conversations/${id}/members`, { user_id: ben.id });
    expect(await listIds(ben, 1)).toEqual([id, ...own]);
    await ben.request("DELETE", `/conversations/${id}/members/${ben.id}`);
    expect(await listIds(ben, 1)).toEqual(own);
    expect(await parley.database`select 1 from member_activity where user_id = ${ben.id}`).toHaveLength(2);
  });
});
