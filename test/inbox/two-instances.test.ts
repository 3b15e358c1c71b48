import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import fc from "fast-check";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { openInbox, type TestInbox, waitForInboxToMatchList } from "../support/inbox.ts";
import { createLinkedBuses } from "../support/linked-buses.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { propertySeed, scaleRuns } from "../support/property-tests.ts";
import { createRestClient, type RestClient } from "../support/rest.ts";

// Two instances share a database and a bus. Users act on the first instance, and inboxes are open on the second instance.
const linkedBuses = createLinkedBuses();
let database: Awaited<ReturnType<typeof createTestDatabase>>;
let firstInstance: TestApp;
let secondInstance: TestApp;

beforeAll(async () => {
  database = await createTestDatabase();
  [firstInstance, secondInstance] = [
    await startApp({ database, bus: linkedBuses.buses[0] }),
    await startApp({ database, bus: linkedBuses.buses[1] }),
  ];
});
afterAll(async () => {
  await Promise.all([firstInstance.stop(), secondInstance.stop()]);
  await database.database.end({ timeout: 1 });
});

const sendMessage = (sender: RestClient, id: string) =>
  sender.request("POST", `/conversations/${id}/messages`, { content: "Hello." });

describe("an inbox on another instance", () => {
  let anna: Account;
  let ben: Account;
  let restClient: RestClient;
  let benRest: RestClient;
  let inbox: TestInbox;
  beforeAll(async () => {
    [anna, ben] = await Promise.all([firstInstance.register(), firstInstance.register()]);
    restClient = createRestClient(firstInstance, anna);
    benRest = createRestClient(firstInstance, ben);
    inbox = await openInbox(secondInstance, ben);
  });
  afterAll(() => inbox.close());

  test("receives the same frames as an inbox on the first instance", async () => {
    const { id } = await createConversation(firstInstance, anna, [ben]);
    await inbox.waitForChange({ conversation_id: id, change: "added" });
    await sendMessage(restClient, id);
    await inbox.waitForChange({ conversation_id: id, unread: 1, change: "updated" });
    const ownConversation = await createConversation(firstInstance, ben);
    await inbox.waitForChange({ conversation_id: ownConversation.id, change: "added" });
    await restClient.request("DELETE", `/conversations/${id}`);
    await inbox.waitForChange({ conversation_id: id, change: "removed" });
    await waitForInboxToMatchList(inbox, secondInstance);
  });

  test("receives the state of changed conversations after bus messages were lost", async () => {
    const createTestConversation = async () => (await createConversation(firstInstance, anna, [ben])).id;
    const [unchangedId, writtenId, renamedId, readId, leftId, deletedId] = await Promise.all(
      Array.from({ length: 6 }, createTestConversation),
    );
    for (const id of [writtenId, readId]) await sendMessage(restClient, id ?? "");
    await waitForInboxToMatchList(inbox, secondInstance);
    // The last frames of these changes arrive within a second.
    await Bun.sleep(1_200);
    linkedBuses.cut();
    const framesBefore = inbox.list().length;
    await sendMessage(restClient, writtenId ?? "");
    await restClient.request("PATCH", `/conversations/${renamedId}`, { title: "Plans" });
    // Read positions aren't in the event log.
    await firstInstance.database`update members set last_read_seq = 2, read_count = 1
      where conversation_id = ${readId ?? ""} and user_id = ${ben.user.id}`;
    await restClient.request("DELETE", `/conversations/${leftId}/members/${ben.user.id}`);
    await restClient.request("DELETE", `/conversations/${deletedId}`);
    const addedId = await createTestConversation();
    const createdId = (await createConversation(firstInstance, ben)).id;
    await Bun.sleep(100);
    expect(inbox.list()).toHaveLength(framesBefore);
    linkedBuses.restore();
    await waitForInboxToMatchList(inbox, secondInstance);
    const changes = Object.fromEntries(
      inbox
        .list()
        .slice(framesBefore)
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
    await sendMessage(benRest, unchangedId ?? "");
    await inbox.waitForChange({ conversation_id: unchangedId, last_seq: 2 });
  });
});

/** A random action. `userIndex` identifies the acting user, and `choice` picks the conversation or the read position. */
type Step = {
  kind: "create" | "send" | "read" | "add" | "remove" | "rename" | "delete";
  userIndex: number;
  choice: number;
};

const stepsArbitrary = fc.array(
  fc.record<Step>({
    kind: fc.constantFrom("create", "send", "send", "send", "read", "add", "add", "remove", "rename", "delete"),
    userIndex: fc.integer({ min: 0, max: 1 }),
    choice: fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }),
  }),
  { minLength: 10, maxLength: 40 },
);

/** Registers two users with inboxes. `performSteps` performs steps as these users, and ignores rejected requests. */
async function startScenario() {
  const accounts = await Promise.all([firstInstance.register(), secondInstance.register()]);
  const inboxes = [
    await openInbox(firstInstance, accounts[0] as Account),
    await openInbox(secondInstance, accounts[1] as Account),
  ];
  const ids: string[] = [];
  return {
    inboxes,
    async performSteps(steps: Step[]): Promise<void> {
      for (const { kind, userIndex, choice } of steps) {
        const account = accounts[userIndex] as Account;
        const otherAccount = accounts[1 - userIndex] as Account;
        const restClient = createRestClient(userIndex === 0 ? secondInstance : firstInstance, account);
        const id = ids[Math.floor(choice * ids.length)];
        if (kind === "create" || id === undefined) ids.push((await createConversation(firstInstance, account)).id);
        else if (kind === "send") await sendMessage(restClient, id);
        else if (kind === "read") {
          const { body } = await restClient.get<{ last_seq: number }>(`/conversations/${id}`);
          const socket = inboxes[userIndex] as TestInbox;
          if (body.last_seq)
            await socket.request({ type: "read", conversation_id: id, seq: Math.ceil(choice * body.last_seq) });
        } else if (kind === "add")
          await restClient.request("POST", `/conversations/${id}/members`, { user_id: otherAccount.user.id });
        else if (kind === "remove")
          await restClient.request("DELETE", `/conversations/${id}/members/${otherAccount.user.id}`);
        else if (kind === "rename") await restClient.request("PATCH", `/conversations/${id}`, { title: `${choice}` });
        else await restClient.request("DELETE", `/conversations/${id}`);
      }
    },
  };
}

test("inboxes match the conversation lists after random actions and lost bus messages", async () => {
  const scenarios = fc.sample(fc.tuple(stepsArbitrary, stepsArbitrary, stepsArbitrary), {
    seed: propertySeed,
    numRuns: scaleRuns(8),
  });
  const runningScenarios = await Promise.all(scenarios.map(startScenario));
  const performPart = (part: 0 | 1 | 2) =>
    Promise.all(runningScenarios.map((scenario, n) => scenario.performSteps(scenarios[n]?.[part] ?? [])));
  await performPart(0);
  linkedBuses.cut();
  await performPart(1);
  linkedBuses.restore();
  await performPart(2);
  for (const { inboxes } of runningScenarios) {
    for (const inbox of inboxes) {
      await waitForInboxToMatchList(inbox, firstInstance);
      for (const frame of inbox.list()) expect(frame.unread).toBeGreaterThanOrEqual(0);
      await inbox.close();
    }
  }
}, 60_000);
