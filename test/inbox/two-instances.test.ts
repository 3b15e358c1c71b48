import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import fc from "fast-check";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { openInbox, type TestInbox, waitForInboxToMatchList } from "../support/inbox.ts";
import { createLinkedBuses } from "../support/linked-buses.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { propertySeed, scaleRuns } from "../support/property-tests.ts";
import { createRestClient, type RestClient } from "../support/rest.ts";

// Two instances share a database and a bus. Users act on the first one, and inboxes are open on the second one.
const linkedBuses = createLinkedBuses();
let database: Awaited<ReturnType<typeof createTestDatabase>>;
let first: TestApp;
let second: TestApp;

beforeAll(async () => {
  database = await createTestDatabase();
  [first, second] = [
    await startApp({ database, bus: linkedBuses.buses[0] }),
    await startApp({ database, bus: linkedBuses.buses[1] }),
  ];
});
afterAll(async () => {
  await Promise.all([first.stop(), second.stop()]);
  await database.database.end({ timeout: 1 });
});

const send = (by: RestClient, id: string) => by.request("POST", `/conversations/${id}/messages`, { content: "Hello." });

describe("an inbox on another instance", () => {
  let anna: Account;
  let ben: Account;
  let rest: RestClient;
  let benRest: RestClient;
  let inbox: TestInbox;
  beforeAll(async () => {
    [anna, ben] = await Promise.all([first.register(), first.register()]);
    rest = createRestClient(first, anna);
    benRest = createRestClient(first, ben);
    inbox = await openInbox(second, ben);
  });
  afterAll(() => inbox.close());

  test("receives the same frames as an inbox on the first instance", async () => {
    const { id } = await createConversation(first, anna, [ben]);
    await inbox.waitForChange({ conversation_id: id, change: "added" });
    await send(rest, id);
    await inbox.waitForChange({ conversation_id: id, unread: 1, change: "updated" });
    const ownConversation = await createConversation(first, ben);
    await inbox.waitForChange({ conversation_id: ownConversation.id, change: "added" });
    await rest.request("DELETE", `/conversations/${id}`);
    await inbox.waitForChange({ conversation_id: id, change: "removed" });
    await waitForInboxToMatchList(inbox, second);
  });

  test("receives the state of changed conversations after bus messages were lost", async () => {
    const create = async () => (await createConversation(first, anna, [ben])).id;
    const [unchangedId, writtenId, renamedId, readId, leftId, deletedId] = await Promise.all(
      Array.from({ length: 6 }, create),
    );
    for (const id of [writtenId, readId]) await send(rest, id ?? "");
    await waitForInboxToMatchList(inbox, second);
    // The last frames of these changes arrive within a second.
    await Bun.sleep(1_200);
    linkedBuses.cut();
    const before = inbox.list().length;
    await send(rest, writtenId ?? "");
    await rest.request("PATCH", `/conversations/${renamedId}`, { title: "Plans" });
    // Read positions aren't in the event log.
    await first.database`update members set last_read_seq = 2, read_count = 1
      where conversation_id = ${readId ?? ""} and user_id = ${ben.user.id}`;
    await rest.request("DELETE", `/conversations/${leftId}/members/${ben.user.id}`);
    await rest.request("DELETE", `/conversations/${deletedId}`);
    const addedId = await create();
    const createdId = (await createConversation(first, ben)).id;
    await Bun.sleep(100);
    expect(inbox.list()).toHaveLength(before);
    linkedBuses.restore();
    await waitForInboxToMatchList(inbox, second);
    const changes = Object.fromEntries(
      inbox
        .list()
        .slice(before)
        .map((frame) => [frame.conversation_id, frame.change]),
    );
    expect(changes).toEqual({
      [writtenId ?? ""]: "updated",
      [renamedId ?? ""]: "updated",
      [readId ?? ""]: "updated",
      [leftId ?? ""]: "removed",
      [deletedId ?? ""]: "removed",
      [addedId]: "added",
      [createdId]: "added",
    });
    expect(changes).not.toHaveProperty(unchangedId ?? "");
    // The inbox still receives later changes.
    await send(benRest, unchangedId ?? "");
    await inbox.waitForChange({ conversation_id: unchangedId, last_seq: 2 });
  });
});

/** A random action. `by` is the index of the acting user, and `at` picks the conversation or the read position. */
type Step = { kind: "create" | "send" | "read" | "add" | "remove" | "rename" | "delete"; by: number; at: number };

const steps = fc.array(
  fc.record<Step>({
    kind: fc.constantFrom("create", "send", "send", "send", "read", "add", "add", "remove", "rename", "delete"),
    by: fc.integer({ min: 0, max: 1 }),
    at: fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }),
  }),
  { minLength: 10, maxLength: 40 },
);

/** Registers two users with inboxes. `act` performs steps as these users, and ignores rejected requests. */
async function startScenario() {
  const accounts = await Promise.all([first.register(), second.register()]);
  const inboxes = [await openInbox(first, accounts[0] as Account), await openInbox(second, accounts[1] as Account)];
  const ids: string[] = [];
  return {
    inboxes,
    async act(all: Step[]): Promise<void> {
      for (const { kind, by, at } of all) {
        const account = accounts[by] as Account;
        const otherAccount = accounts[1 - by] as Account;
        const rest = createRestClient(by === 0 ? second : first, account);
        const id = ids[Math.floor(at * ids.length)];
        if (kind === "create" || id === undefined) ids.push((await createConversation(first, account)).id);
        else if (kind === "send") await send(rest, id);
        else if (kind === "read") {
          const { body } = await rest.get<{ last_seq: number }>(`/conversations/${id}`);
          const socket = inboxes[by] as TestInbox;
          if (body.last_seq)
            await socket.request({ type: "read", conversation_id: id, seq: Math.ceil(at * body.last_seq) });
        } else if (kind === "add")
          await rest.request("POST", `/conversations/${id}/members`, { user_id: otherAccount.user.id });
        else if (kind === "remove")
          await rest.request("DELETE", `/conversations/${id}/members/${otherAccount.user.id}`);
        else if (kind === "rename") await rest.request("PATCH", `/conversations/${id}`, { title: `${at}` });
        else await rest.request("DELETE", `/conversations/${id}`);
      }
    },
  };
}

test("inboxes match the conversation lists after random actions and lost bus messages", async () => {
  const scenarios = fc.sample(fc.tuple(steps, steps, steps), { seed: propertySeed, numRuns: scaleRuns(8) });
  const runningScenarios = await Promise.all(scenarios.map(startScenario));
  const act = (part: 0 | 1 | 2) =>
    Promise.all(runningScenarios.map((scenario, n) => scenario.act(scenarios[n]?.[part] ?? [])));
  await act(0);
  linkedBuses.cut();
  await act(1);
  linkedBuses.restore();
  await act(2);
  for (const { inboxes } of runningScenarios) {
    for (const inbox of inboxes) {
      await waitForInboxToMatchList(inbox, first);
      for (const frame of inbox.list()) expect(frame.unread).toBeGreaterThanOrEqual(0);
      await inbox.close();
    }
  }
}, 60_000);
