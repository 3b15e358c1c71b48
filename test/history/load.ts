import type { Account } from "../support/client.ts";
import { createTestClient } from "../support/client.ts";
import { createConversation } from "../support/conversation.ts";
import { Client, type StepCounter } from "./client.ts";
import type { Cluster } from "./cluster.ts";
import type { Random } from "./random.ts";

/** The members of every conversation, and a guest who is added to and removed from the first conversation. */
export type TestUsers = { owner: Account; members: Account[]; guest: Account };

const CONVERSATION_COUNT = 3;
const SOCKETS_PER_MEMBER = 2;
/** The number of concurrent sends per client. */
const SENDS_PER_CLIENT = 2;
const PAUSE_MS = { min: 10, max: 80 };
/** The share of messages that request an answer. */
const ANSWER_SHARE = 0.02;
/** The share of messages after which the client marks the conversation as read. */
const READ_SHARE = 0.1;
/** The share of messages after which the client resends its last acknowledged message. */
const RESEND_SHARE = 0.03;
const GUEST_PAUSE_MS = { min: 200, max: 900 };
const RETRY_MS = 50;
const POLL_MS = 20;
const FILLER_CHARS_MAX = 300;

export type Load = Awaited<ReturnType<typeof startLoad>>;

/** Registers the owner, the other members and the guest. */
export async function registerUsers(cluster: Cluster, memberCount: number): Promise<TestUsers> {
  const [owner, guest, ...otherMembers] = await Promise.all(
    Array.from({ length: memberCount + 1 }, () => cluster.register()),
  );
  if (!owner || !guest) throw new Error("At least two members are needed.");
  return { owner, guest, members: [owner, ...otherMembers] };
}

/** Starts clients that send and receive messages until they are stopped. */
export async function startLoad(cluster: Cluster, users: TestUsers, random: Random) {
  let step = 0;
  const steps: StepCounter = { next: () => ++step };
  const { owner, members, guest } = users;
  const otherMembers = members.filter((member) => member !== owner);
  const client = createTestClient(cluster.pickUrl(0));
  const conversationIds: string[] = [];
  for (let n = 0; n < CONVERSATION_COUNT; n += 1)
    conversationIds.push((await createConversation(client, owner, otherMembers)).id);
  const [guestConversationId = ""] = conversationIds;
  let isStopped = false;

  function createClient(account: Account, name: string, conversationIds: string[], isGuest = false): Client {
    const clientRandom = random.fork();
    const pickUrl = () => cluster.pickUrl(clientRandom.int(0, 1_000));
    const client = new Client({ name, account, random: clientRandom, steps, pickUrl });
    for (const id of conversationIds) client.addConversation(id, { isGuest });
    client.start();
    return client;
  }

  const writers = members.flatMap((account, n) =>
    Array.from({ length: SOCKETS_PER_MEMBER }, (_, socketIndex) =>
      createClient(account, `m${n}-${socketIndex}`, conversationIds),
    ),
  );
  const [firstWriter] = writers;
  const clients = [...writers, createClient(guest, "guest", [guestConversationId], true)];

  async function sendMessages(client: Client, clientRandom: Random): Promise<void> {
    // Ensures that an answer is in progress when the fault is injected.
    if (client === firstWriter)
      for (const id of conversationIds) await client.sendMessage(id, "Count.", { reply: true });
    while (!isStopped) {
      const conversationId = clientRandom.pick(conversationIds);
      const filler = "ы".repeat(clientRandom.int(0, FILLER_CHARS_MAX));
      await client.sendMessage(conversationId, `${client.name} says ${filler}`, {
        reply: clientRandom.next() < ANSWER_SHARE,
      });
      const [lastAcknowledged] = client.sends.filter(({ ackedStep }) => ackedStep !== null).slice(-1);
      if (lastAcknowledged && clientRandom.next() < RESEND_SHARE) await client.resend(lastAcknowledged);
      if (clientRandom.next() < READ_SHARE) await client.markRead(conversationId);
      await Bun.sleep(clientRandom.int(PAUSE_MS.min, PAUSE_MS.max));
    }
  }

  /** Repeats a request until it succeeds, or until the response shows that an earlier attempt succeeded. */
  async function changeMembership(method: "POST" | "DELETE", finalStatuses: number[]): Promise<void> {
    const path = `/api/v1/conversations/${guestConversationId}/members`;
    for (;;) {
      const instanceClient = createTestClient(cluster.pickUrl(random.int(0, 1_000)));
      const request =
        method === "POST"
          ? instanceClient.fetch(path, { token: owner.access_token, json: { user_id: guest.user.id } })
          : instanceClient.fetch(`${path}/${guest.user.id}`, { token: owner.access_token, method });
      const status = await request.then((response) => response.status).catch(() => 0);
      if (finalStatuses.includes(status)) return;
      await Bun.sleep(RETRY_MS);
    }
  }

  /** Adds and removes the guest repeatedly. At the end, the guest is a member. */
  async function addAndRemoveGuest(clientRandom: Random): Promise<void> {
    while (!isStopped) {
      await changeMembership("POST", [201, 200, 409]);
      await Bun.sleep(clientRandom.int(GUEST_PAUSE_MS.min, GUEST_PAUSE_MS.max));
      await changeMembership("DELETE", [204, 200, 404]);
      await Bun.sleep(clientRandom.int(GUEST_PAUSE_MS.min, GUEST_PAUSE_MS.max));
    }
    await changeMembership("POST", [201, 200, 409]);
  }

  const countAcknowledged = () => clients.reduce((sum, { ackedCount }) => sum + ackedCount, 0);
  const runningTasks = [
    ...writers.flatMap((client) => Array.from({ length: SENDS_PER_CLIENT }, () => sendMessages(client, random.fork()))),
    addAndRemoveGuest(random.fork()),
  ];

  return {
    clients,
    conversationIds,
    guest: { conversationId: guestConversationId, userId: guest.user.id },

    /** Waits, without a timeout, until this many more messages are acknowledged. */
    async waitForAcks(count: number): Promise<void> {
      const targetCount = countAcknowledged() + count;
      while (countAcknowledged() < targetCount) await Bun.sleep(POLL_MS);
    },

    /** Stops sending, and waits until all messages are acknowledged. The clients stay connected. */
    async stopWriting(): Promise<void> {
      isStopped = true;
      await Promise.all(runningTasks);
    },

    /** Stops all clients, even while they are sending. */
    async stop(): Promise<void> {
      isStopped = true;
      await Promise.all(clients.map((client) => client.stop()));
    },
  };
}
