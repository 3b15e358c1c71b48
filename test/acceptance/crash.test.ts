import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { Account } from "../support/client.ts";
import { createConversation } from "../support/conversation.ts";
import { range } from "./assemble-answer.ts";
import { type Backend, backends } from "./backends.ts";
import { openSubscribedSocket } from "./chat.ts";
import { createInstallation, type Installation, type Parley, TEST_TIMEOUT_MS } from "./installation.ts";
import { createContent, fetchHistory, type Sender, startSender } from "./sender.ts";

setDefaultTimeout(TEST_TIMEOUT_MS);

const ROUNDS = 2;
const LOAD_MS = 700;
const CONVERSATIONS = 2;
const SENDERS_PER_CONVERSATION = 3;

describe.each(backends)("kill -9 under load ($name)", ({ openBackend }) => {
  let backend: Backend;
  let installation: Installation;
  let parley: Parley;
  let account: Account;
  const conversations: string[] = [];

  beforeAll(async () => {
    backend = await openBackend();
    installation = await createInstallation({ env: backend.env });
    parley = await installation.start();
    account = await parley.register();
    for (let n = 0; n < CONVERSATIONS; n += 1) conversations.push((await createConversation(parley, account)).id);
  });
  afterAll(async () => {
    await installation?.remove();
    await backend?.close();
  });

  /** Checks that every acknowledged message is stored exactly once, in the order in which the messages were sent. */
  async function checkHistory(conversationId: string, senders: Sender[]): Promise<void> {
    const history = await fetchHistory(parley, account, conversationId);
    expect(history.map(({ seq }) => seq)).toEqual(range(1, history.length));
    const byClientId = new Map(history.map((message) => [message.client_message_id, message]));
    expect(byClientId.size).toBe(history.length);
    for (const { ackedMessages, pushedMessages } of senders) {
      const seqs = [...ackedMessages.values()].map(({ seq }) => seq);
      expect(seqs).toEqual(seqs.toSorted((a, b) => a - b));
      const storedMessages = [...ackedMessages.keys()].map((id) => byClientId.get(id));
      expect(storedMessages).toEqual([...ackedMessages.values()]);
      expect(storedMessages.map((message) => message?.content)).toEqual([...ackedMessages.keys()].map(createContent));
      expect(pushedMessages.map(({ client_message_id }) => byClientId.get(client_message_id))).toEqual(pushedMessages);
    }
  }

  /** Resends unacknowledged messages, as a reconnecting client does. */
  async function resendMessages(conversationId: string, senders: Sender[]): Promise<void> {
    const storedMessages = new Map(
      (await fetchHistory(parley, account, conversationId)).map((message) => [message.client_message_id, message]),
    );
    const socket = await openSubscribedSocket(parley, account, conversationId);
    for (const sender of senders) {
      const [lastAcked] = [...sender.ackedMessages.keys()].slice(-1);
      for (const id of [...sender.unackedIds, lastAcked ?? ""]) {
        const frame = {
          conversation_id: conversationId,
          client_message_id: id,
          content: createContent(id),
          reply: false,
        };
        const ack = await socket.request({ type: "message.send", ...frame });
        expect(ack).toMatchObject({ type: "ack", duplicate: storedMessages.has(id) });
        if (storedMessages.has(id)) expect(ack.message).toEqual(storedMessages.get(id));
        sender.ackedMessages.set(id, ack.message as never);
      }
      sender.unackedIds.clear();
    }
    await socket.close();
  }

  test.each(range(1, ROUNDS))("doesn't lose, duplicate or reorder acknowledged messages (round %d)", async (round) => {
    const senderGroups = conversations.map((conversationId, index) => ({
      conversationId,
      senders: range(1, SENDERS_PER_CONVERSATION).map((n) =>
        startSender(parley, account, conversationId, `r${round}-c${index}-s${n}`),
      ),
    }));
    const allSenders = senderGroups.flatMap(({ senders }) => senders);
    await Bun.sleep(LOAD_MS);
    // Every second round also kills the embedded Postgres, as if the whole container were killed.
    const postgresPid = round % 2 === 0 ? installation.findPostgresPid() : null;
    const exited = parley.kill();
    if (postgresPid !== null) process.kill(postgresPid, "SIGKILL");
    await exited;
    await Promise.all(allSenders.map(({ closed }) => closed));
    const ackedCount = allSenders.reduce((sum, sender) => sum + sender.ackedMessages.size, 0);
    const unackedCount = allSenders.reduce((sum, sender) => sum + sender.unackedIds.size, 0);
    expect(ackedCount).toBeGreaterThan(100);
    expect(unackedCount).toBeGreaterThan(0);

    parley = await installation.start();
    for (const { conversationId, senders } of senderGroups) {
      await checkHistory(conversationId, senders);
      await resendMessages(conversationId, senders);
      const history = await fetchHistory(parley, account, conversationId);
      const ids = history.map(({ client_message_id }) => client_message_id);
      expect(new Set(ids).size).toBe(ids.length);
      expect(history.map(({ seq }) => seq)).toEqual(range(1, history.length));
      const ackedIds = senders.flatMap(({ ackedMessages }) => [...ackedMessages.keys()]);
      expect(new Set(ackedIds).isSubsetOf(new Set(ids))).toBe(true);
    }
  });
});
