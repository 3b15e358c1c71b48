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

describe.each(backends)("kill -9 under load ($name)", ({ open }) => {
  let backend: Backend;
  let installation: Installation;
  let parley: Parley;
  let account: Account;
  const conversations: string[] = [];

  beforeAll(async () => {
    backend = await open();
    installation = await createInstallation({ env: backend.env });
    parley = await installation.start();
    account = await parley.register();
    for (let n = 0; n < CONVERSATIONS; n += 1) conversations.push((await createConversation(parley, account)).id);
  });
  afterAll(async () => {
    await installation?.remove();
    await backend?.close();
  });

  /** Checks that all acknowledged messages are stored once, in order. */
  async function checkHistory(conversationId: string, senders: Sender[]): Promise<void> {
    const history = await fetchHistory(parley, account, conversationId);
    expect(history.map(({ seq }) => seq)).toEqual(range(1, history.length));
    const byClientId = new Map(history.map((message) => [message.client_message_id, message]));
    expect(byClientId.size).toBe(history.length);
    for (const { acked, pushed } of senders) {
      const seqs = [...acked.values()].map(({ seq }) => seq);
      expect(seqs).toEqual(seqs.toSorted((a, b) => a - b));
      const storedMessages = [...acked.keys()].map((id) => byClientId.get(id));
      expect(storedMessages).toEqual([...acked.values()]);
      expect(storedMessages.map((message) => message?.content)).toEqual([...acked.keys()].map(createContent));
      expect(pushed.map(({ client_message_id }) => byClientId.get(client_message_id))).toEqual(pushed);
    }
  }

  /** Resends unacknowledged messages, as a reconnecting client does. */
  async function resend(conversationId: string, senders: Sender[]): Promise<void> {
    const stored = new Map(
      (await fetchHistory(parley, account, conversationId)).map((message) => [message.client_message_id, message]),
    );
    const socket = await openSubscribedSocket(parley, account, conversationId);
    for (const sender of senders) {
      const [lastAcked] = [...sender.acked.keys()].slice(-1);
      for (const id of [...sender.unacked, lastAcked ?? ""]) {
        const frame = {
          conversation_id: conversationId,
          client_message_id: id,
          content: createContent(id),
          reply: false,
        };
        const ack = await socket.request({ type: "message.send", ...frame });
        expect(ack).toMatchObject({ type: "ack", duplicate: stored.has(id) });
        if (stored.has(id)) expect(ack.message).toEqual(stored.get(id));
        sender.acked.set(id, ack.message as never);
      }
      sender.unacked.clear();
    }
    await socket.close();
  }

  test.each(range(1, ROUNDS))("doesn't lose, duplicate or reorder acknowledged messages (round %d)", async (round) => {
    const load = conversations.map((conversationId, index) => ({
      conversationId,
      senders: range(1, SENDERS_PER_CONVERSATION).map((n) =>
        startSender(parley, account, conversationId, `r${round}-c${index}-s${n}`),
      ),
    }));
    const allSenders = load.flatMap(({ senders }) => senders);
    await Bun.sleep(LOAD_MS);
    // Every second round also kills the embedded Postgres, as if the whole container was killed.
    const postgres = round % 2 === 0 ? installation.findPostgresPid() : null;
    const killed = parley.kill();
    if (postgres !== null) process.kill(postgres, "SIGKILL");
    await killed;
    await Promise.all(allSenders.map(({ closed }) => closed));
    const acked = allSenders.reduce((sum, sender) => sum + sender.acked.size, 0);
    const unacked = allSenders.reduce((sum, sender) => sum + sender.unacked.size, 0);
    expect({ acked: acked > 100, unacked: unacked > 0 }).toEqual({ acked: true, unacked: true });

    parley = await installation.start();
    for (const { conversationId, senders } of load) {
      await checkHistory(conversationId, senders);
      await resend(conversationId, senders);
      const history = await fetchHistory(parley, account, conversationId);
      const ids = history.map(({ client_message_id }) => client_message_id);
      expect(new Set(ids).size).toBe(ids.length);
      expect(history.map(({ seq }) => seq)).toEqual(range(1, history.length));
      const acknowledged = senders.flatMap(({ acked }) => [...acked.keys()]);
      expect(new Set(acknowledged).isSubsetOf(new Set(ids))).toBe(true);
    }
  });
});
