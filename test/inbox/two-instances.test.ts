import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import fc from "fast-check";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { openInbox, type TestInbox, waitForList } from "../support/inbox.ts";
import { linkBuses } from "../support/linked-buses.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { countRuns, propertySeed } from "../support/properties.ts";
import { createRest, type Rest } from "../support/rest.ts";

/** Two instances on one database with a shared bus; users act on the first, inboxes are on the second. */
const link = linkBuses();
let database: Awaited<ReturnType<typeof createTestDatabase>>;
let first: TestApp;
let second: TestApp;

beforeAll(async () => {
  database = await createTestDatabase();
  [first, second] = [
    await startApp({ database, bus: link.buses[0] }),
    await startApp({ database, bus: link.buses[1] }),
  ];
});
afterAll(async () => {
  await Promise.all([first.stop(), second.stop()]);
  await database.database.end({ timeout: 1 });
});

const send = (by: Rest, id: string) => by.request("POST", `/conversations/${id}/messages`, { content: "Hello." });

describe("an inbox on another instance", () => {
  let anna: Account;
  let ben: Account;
  let rest: Rest;
  let ofBen: Rest;
  let inbox: TestInbox;
  beforeAll(async () => {
    [anna, ben] = await Promise.all([first.register(), first.register()]);
    rest = createRest(first, anna);
    ofBen = createRest(first, ben);
    inbox = await openInbox(second, ben);
  });
  afterAll(() => inbox.close());

  test("receives the same frames", async () => {
    const { id } = await createConversation(first, anna, [ben]);
    await inbox.waitForChange({ conversation_id: id, change: "added" });
    await send(rest, id);
    await inbox.waitForChange({ conversation_id: id, unread: 1, change: "updated" });
    const own = await createConversation(first, ben);
    await inbox.waitForChange({ conversation_id: own.id, change: "added" });
    await rest.request("DELETE", `/conversations/${id}`);
    await inbox.waitForChange({ conversation_id: id, change: "removed" });
    await waitForList(inbox, second);
  });

  test("receives the right states after lost bus messages, for changed conversations only", async () => {
    const create = async () => (await createConversation(first, anna, [ben])).id;
    const [quiet, written, renamed, read, left, deleted] = await Promise.all(Array.from({ length: 6 }, create));
    for (const id of [written, read]) await send(rest, id ?? "");
    await waitForList(inbox, second);
    // The last frames of the changes so far arrive within a second.
    await Bun.sleep(1_200);
    link.cut();
    const before = inbox.list().length;
    await send(rest, written ?? "");
    await rest.request("PATCH", `/conversations/${renamed}`, { title: "Plans" });
    // A read position leaves no trace in the event log.
    await first.database`update members set last_read_seq = 2, read_count = 1
      where conversation_id = ${read ?? ""} and user_id = ${ben.user.id}`;
    await rest.request("DELETE", `/conversations/${left}/members/${ben.user.id}`);
    await rest.request("DELETE", `/conversations/${deleted}`);
    const added = await create();
    const mine = (await createConversation(first, ben)).id;
    await Bun.sleep(100);
    expect(inbox.list()).toHaveLength(before);
    link.restore();
    await waitForList(inbox, second);
    const changes = Object.fromEntries(
      inbox
        .list()
        .slice(before)
        .map((frame) => [frame.conversation_id, frame.change]),
    );
    expect(changes).toEqual({
      [written ?? ""]: "updated",
      [renamed ?? ""]: "updated",
      [read ?? ""]: "updated",
      [left ?? ""]: "removed",
      [deleted ?? ""]: "removed",
      [added]: "added",
      [mine]: "added",
    });
    expect(changes).not.toHaveProperty(quiet ?? "");
    // Afterwards it continues as before.
    await send(ofBen, quiet ?? "");
    await inbox.waitForChange({ conversation_id: quiet, last_seq: 2 });
  });
});

type Step = { kind: "create" | "send" | "read" | "add" | "remove" | "rename" | "delete"; by: number; at: number };

const steps = fc.array(
  fc.record<Step>({
    kind: fc.constantFrom("create", "send", "send", "send", "read", "add", "add", "remove", "rename", "delete"),
    by: fc.integer({ min: 0, max: 1 }),
    at: fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }),
  }),
  { minLength: 10, maxLength: 40 },
);

/** Two users who perform the steps, as far as they may, on either instance. */
async function startScenario() {
  const accounts = await Promise.all([first.register(), second.register()]);
  const inboxes = [await openInbox(first, accounts[0] as Account), await openInbox(second, accounts[1] as Account)];
  const ids: string[] = [];
  return {
    inboxes,
    async act(all: Step[]): Promise<void> {
      for (const { kind, by, at } of all) {
        const account = accounts[by] as Account;
        const other = accounts[1 - by] as Account;
        const rest = createRest(by === 0 ? second : first, account);
        const id = ids[Math.floor(at * ids.length)];
        if (kind === "create" || id === undefined) ids.push((await createConversation(first, account)).id);
        else if (kind === "send") await send(rest, id);
        else if (kind === "read") {
          const { body } = await rest.get<{ last_seq: number }>(`/conversations/${id}`);
          const socket = inboxes[by] as TestInbox;
          if (body.last_seq)
            await socket.request({ type: "read", conversation_id: id, seq: Math.ceil(at * body.last_seq) });
        } else if (kind === "add")
          await rest.request("POST", `/conversations/${id}/members`, { user_id: other.user.id });
        else if (kind === "remove") await rest.request("DELETE", `/conversations/${id}/members/${other.user.id}`);
        else if (kind === "rename") await rest.request("PATCH", `/conversations/${id}`, { title: `${at}` });
        else await rest.request("DELETE", `/conversations/${id}`);
      }
    },
  };
}

test("inboxes end up equal to the lists, whatever users do and whatever bus messages are lost", async () => {
  const scenarios = fc.sample(fc.tuple(steps, steps, steps), { seed: propertySeed, numRuns: countRuns(8) });
  const running = await Promise.all(scenarios.map(startScenario));
  const act = (part: 0 | 1 | 2) => Promise.all(running.map((one, n) => one.act(scenarios[n]?.[part] ?? [])));
  await act(0);
  link.cut();
  await act(1);
  link.restore();
  await act(2);
  for (const { inboxes } of running) {
    for (const inbox of inboxes) {
      await waitForList(inbox, first);
      for (const frame of inbox.list()) expect(frame.unread).toBeGreaterThanOrEqual(0);
      await inbox.close();
    }
  }
}, 60_000);
