import { afterAll, beforeAll, expect, test } from "bun:test";
import type { Account } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { createRestClient } from "../support/rest.ts";
import { type Administration, startAdministration } from "./start-administration.ts";

const CONVERSATIONS = 12;
const USERS = 8;
const DELETED_USERS = 4;

let parley: Administration;
beforeAll(async () => {
  parley = await startAdministration();
});
afterAll(() => parley.stop());

test("concurrent user deletions, new messages and member changes never deadlock or leave gaps", async () => {
  const accounts: Account[] = [];
  for (let count = 0; count < USERS; count += 1) accounts.push(await parley.register());
  const [owner, ...otherAccounts] = accounts as [Account, ...Account[]];
  const deletedAccounts = otherAccounts.slice(0, DELETED_USERS);
  const remainingAccounts = accounts.filter((account) => !deletedAccounts.includes(account));
  const ids: string[] = [];
  for (let count = 0; count < CONVERSATIONS; count += 1) {
    // Some conversations are owned by users who will be deleted.
    const creator = count % 3 === 0 ? (deletedAccounts[count % DELETED_USERS] ?? owner) : owner;
    ids.push(
      (
        await createConversation(
          parley,
          creator,
          accounts.filter((account) => account !== creator),
        )
      ).id,
    );
  }
  const statusCounts = new Map<number, number>();
  const countStatus = (status: number) => statusCounts.set(status, (statusCounts.get(status) ?? 0) + 1);
  let isDone = false;
  const pickRandom = <T>(items: T[]) => items[Math.floor(Math.random() * items.length)] as T;
  const writerTasks = accounts.map(async (account) => {
    const rest = createRestClient(parley, account);
    while (!isDone) {
      countStatus(
        (await rest.request("POST", `/conversations/${pickRandom(ids)}/messages`, { content: "text" })).status,
      );
      const memberChange = { user_id: pickRandom(accounts).user.id, role: pickRandom(["member", "viewer"]) };
      countStatus((await rest.request("POST", `/conversations/${pickRandom(ids)}/members`, memberChange)).status);
      await Bun.sleep(2);
    }
  });
  await Bun.sleep(100);
  const deletionStatuses = await Promise.all(
    deletedAccounts.map(({ user }) => parley.admin.request("DELETE", `/users/${user.id}`).then(({ status }) => status)),
  );
  isDone = true;
  await Promise.all(writerTasks);

  expect(deletionStatuses).toEqual(deletedAccounts.map(() => 204));
  expect([...statusCounts.keys()].filter((status) => ![201, 401, 403, 404, 409, 429].includes(status))).toEqual([]);
  expect(statusCounts.get(201)).toBeGreaterThan(USERS);
  const sql = parley.database;
  const [state] = await sql`
    select (select count(*)::int from users where id in ${sql(deletedAccounts.map(({ user }) => user.id))}) as users,
      (select count(*)::int from conversations) as conversations,
      (select count(*)::int from conversations c
       where not exists (select 1 from members m where m.conversation_id = c.id and m.role = 'owner')) as unowned,
      (select count(*)::int from conversations c
       where c.last_seq <> (select count(*) from events e where e.conversation_id = c.id)
         + (select count(*) from messages x where x.conversation_id = c.id)) as gaps,
      (select deadlocks::int from pg_stat_database where datname = current_database()) as deadlocks`;
  expect(state).toEqual({ users: 0, conversations: CONVERSATIONS, unowned: 0, gaps: 0, deadlocks: 0 });
  expect(remainingAccounts.length).toBe(USERS - DELETED_USERS);
}, 60_000);
