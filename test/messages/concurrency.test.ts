import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { Message } from "../../src/protocol/message.ts";
import { assembleAnswer } from "../acceptance/assemble-answer.ts";
import { startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { propertyFactor, scaleRuns } from "../support/property-tests.ts";
import { createRestClient, type RestClient } from "../support/rest.ts";
import { openSocket, type TestSocket } from "../support/socket.ts";
import { listReceivedEvents, loadVerifiedLog } from "./log.ts";

/** Anna owns the conversations, Ben is always a member, and Carl joins and leaves. */
type Person = { rest: RestClient; socket: TestSocket };
let parley: TestApp;
let people: Person[];

beforeAll(async () => {
  parley = await startApp();
  people = await Promise.all(
    ["Anna", "Ben", "Carl"].map(async (name) => {
      const account = await parley.register(undefined, name);
      return {
        rest: createRestClient(parley, account),
        socket: await openSocket(parley.url, { token: account.access_token }),
      };
    }),
  );
});
afterAll(() => parley.stop());

type Step =
  | { kind: "send"; person: number; conversationIndex: number; clientId: number; parent: number | null; reply: boolean }
  | { kind: "post"; person: number; conversationIndex: number; clientId: number }
  | { kind: "edit" | "delete"; person: number; messageIndex: number }
  | { kind: "role"; conversationIndex: number; role: "member" | "viewer" | "owner" | null }
  | { kind: "title"; conversationIndex: number }
  | { kind: "subscribe"; person: number; conversationIndex: number }
  | { kind: "wait" };

const arbitraryPerson = fc.integer({ min: 0, max: 2 });
const arbitraryConversationIndex = fc.integer({ min: 0, max: 1 });
const arbitraryMessageIndex = fc.nat(50);
const arbitraryClientId = fc.integer({ min: 0, max: 12 });
const arbitraryStep: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 12,
    arbitrary: fc.record({
      kind: fc.constant("send" as const),
      person: arbitraryPerson,
      conversationIndex: arbitraryConversationIndex,
      clientId: arbitraryClientId,
      parent: fc.option(arbitraryMessageIndex, { freq: 4 }),
      reply: fc.nat(5).map((n) => n === 0),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant("post" as const),
      person: arbitraryPerson,
      conversationIndex: arbitraryConversationIndex,
      clientId: arbitraryClientId,
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constantFrom("edit" as const, "delete" as const),
      person: arbitraryPerson,
      messageIndex: arbitraryMessageIndex,
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant("role" as const),
      conversationIndex: arbitraryConversationIndex,
      role: fc.constantFrom("member" as const, "viewer" as const, "owner" as const, null),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant("title" as const), conversationIndex: arbitraryConversationIndex }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant("subscribe" as const),
      person: arbitraryPerson,
      conversationIndex: arbitraryConversationIndex,
    }),
  },
  { weight: 2, arbitrary: fc.constant<Step>({ kind: "wait" }) },
);

let runNumber = 0;
/** Maximum delay between the last response and the last push. */
const PUSH_DELAY_MS_MAX = 2_000;

/** Runs all steps between two `wait` steps concurrently, and returns the stored messages and the additional sockets. */
async function runSteps(steps: Step[], ids: string[]) {
  const sentMessages: {
    key: string;
    sender: number;
    conversationIndex: number;
    message: Message;
    duplicate: boolean;
  }[] = [];
  const knownMessages: Message[] = [];
  const watchers: { socket: TestSocket; id: string }[] = [];
  let pendingActions: Promise<unknown>[] = [];
  const [anna] = people as [Person, Person, Person];
  const carl = people[2]?.rest.id ?? "";
  /** Accepts only errors that can result from concurrent changes. */
  const expectAllowed = (status: number) => {
    if (![200, 201, 204, 403, 404, 409].includes(status)) throw new Error(`unexpected status ${status}`);
  };

  for (const [index, step] of steps.entries()) {
    const id = "conversationIndex" in step ? (ids[step.conversationIndex] ?? "") : "";
    const { rest, socket } = ("person" in step ? people[step.person] : undefined) ?? anna;
    const performStep = async (): Promise<void> => {
      if (step.kind === "send") {
        const parent =
          step.parent === null ? undefined : knownMessages[step.parent % Math.max(1, knownMessages.length)];
        const response = await socket.request({
          type: "message.send",
          id: `${runNumber}/${index}`,
          conversation_id: id,
          content: `${index}`,
          client_message_id: `${step.clientId}`,
          reply: step.reply,
          ...(parent?.conversation_id === id && { parent_id: parent.id }),
        });
        if (response.type === "error") return expect(["forbidden", "not_found"]).toContain(response.code as string);
        const message = response.message as Message;
        knownMessages.push(message);
        const key = `${step.person}/${step.conversationIndex}/${step.clientId}`;
        sentMessages.push({
          key,
          sender: step.person,
          conversationIndex: step.conversationIndex,
          message,
          duplicate: response.duplicate === true,
        });
      } else if (step.kind === "post") {
        const input = { content: `${index}`, client_message_id: `${step.clientId}`, reply: false };
        const { status, body } = await rest.request<{ message: Message }>(
          "POST",
          `/conversations/${id}/messages`,
          input,
        );
        expectAllowed(status);
        const key = `${step.person}/${step.conversationIndex}/${step.clientId}`;
        // REST doesn't guarantee an order, so messages sent by REST are excluded from the order check, like duplicates.
        if (status === 201)
          sentMessages.push({
            key,
            sender: step.person,
            conversationIndex: step.conversationIndex,
            message: body.message,
            duplicate: true,
          });
      } else if (step.kind === "edit" || step.kind === "delete") {
        const message = knownMessages[step.messageIndex % Math.max(1, knownMessages.length)];
        if (!message) return;
        const messagePath = `/conversations/${message.conversation_id}/messages/${message.id}`;
        const isEdit = step.kind === "edit";
        expectAllowed(
          (
            await rest.request(
              isEdit ? "PATCH" : "DELETE",
              messagePath,
              isEdit ? { content: `edit ${index}` } : undefined,
            )
          ).status,
        );
      } else if (step.kind === "role") {
        const membersPath = `/conversations/${id}/members`;
        if (step.role)
          expectAllowed((await anna.rest.request("POST", membersPath, { user_id: carl, role: step.role })).status);
        else expectAllowed((await anna.rest.request("DELETE", `${membersPath}/${carl}`)).status);
      } else if (step.kind === "title") {
        expectAllowed((await anna.rest.request("PATCH", `/conversations/${id}`, { title: `${index}` })).status);
      } else if (step.kind === "subscribe" && rest.id !== carl) {
        const watcher = await openSocket(parley.url, { token: rest.account.access_token });
        watchers.push({ socket: watcher, id });
        await watcher.request({ type: "subscribe", conversation_id: id, after_seq: 0 });
      }
    };
    if (step.kind === "wait") await Promise.all(pendingActions.splice(0));
    else pendingActions.push(performStep());
  }
  await Promise.all(pendingActions);
  pendingActions = [];
  while ((await countStreaming(ids)) > 0) await Bun.sleep(5);
  return { sentMessages, watchers };
}

async function countStreaming(ids: string[]): Promise<number> {
  const rows = await parley.database`
    select 1 from messages where conversation_id = any (${ids}) and status = 'streaming'`;
  return rows.length;
}

describe("concurrent random actions", () => {
  test("leave gapless seqs, one message per client id, each sender's messages in order, and equal events for all readers", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(arbitraryStep, { minLength: 20, maxLength: 120 }), async (steps) => {
        runNumber += 1;
        const [anna, ben, carl] = people as [Person, Person, Person];
        const ids = await Promise.all(
          [0, 1].map(async () => {
            const conversation = await createConversation(parley, anna.rest.account, [
              ben.rest.account,
              carl.rest.account,
            ]);
            return conversation.id;
          }),
        );
        for (const conversation_id of ids)
          await anna.socket.request({
            type: "subscribe",
            conversation_id,
            after_seq: 0,
            id: `s${runNumber}${conversation_id}`,
          });

        const { sentMessages, watchers } = await runSteps(steps, ids);

        for (const [index, id] of ids.entries()) {
          const log = await loadVerifiedLog(parley, id);
          const eventCount = log.length;
          for (const { socket } of [{ socket: anna.socket }, ...watchers.filter((watcher) => watcher.id === id)]) {
            const deadlineMs = performance.now() + PUSH_DELAY_MS_MAX;
            while (listReceivedEvents(socket.frames, id).length < eventCount && performance.now() < deadlineMs)
              await Bun.sleep(2);
            expect(listReceivedEvents(socket.frames, id)).toEqual(log);
            for (const { message_id } of log.filter(({ type }) => type === "message.completed"))
              expect(assembleAnswer(socket.frames, message_id ?? "").finalMessage).toMatchObject({
                status: "complete",
              });
          }
          for (const sender of people.keys()) {
            const newMessages = sentMessages.filter(
              (message) => message.sender === sender && message.conversationIndex === index && !message.duplicate,
            );
            const sentNumbers = newMessages.map(({ message }) => Number(message.content));
            const storedNumbers = newMessages
              .sort((a, b) => a.message.seq - b.message.seq)
              .map(({ message }) => Number(message.content));
            expect(storedNumbers).toEqual([...sentNumbers].sort((a, b) => a - b));
          }
        }
        const byKey = Map.groupBy(sentMessages, ({ key }) => key);
        for (const resentMessages of byKey.values()) {
          expect(new Set(resentMessages.map(({ message }) => message.id)).size).toBe(1);
          expect(new Set(resentMessages.map(({ message }) => message.seq)).size).toBe(1);
        }
        for (const { socket } of watchers) await socket.close();
        for (const conversation_id of ids) await anna.socket.request({ type: "unsubscribe", conversation_id });
        anna.socket.frames.length = 0;
      }),
      { numRuns: scaleRuns(25), interruptAfterTimeLimit: 15_000 * propertyFactor },
    );
    const [row] = await parley.database`select deadlocks from pg_stat_database where datname = current_database()`;
    expect(row?.deadlocks).toBe(0);
  });
});
