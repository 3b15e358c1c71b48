import type { Account } from "../support/client.ts";
import { createTestClient } from "../support/client.ts";
import { createConversation } from "../support/conversation.ts";
import { Client, type Steps } from "./client.ts";
import type { Random } from "./random.ts";
import type { World } from "./world.ts";

/** The members of every conversation, and a guest who joins and leaves the first one. */
export type People = { owner: Account; members: Account[]; guest: Account };

const CONVERSATIONS = 3;
const SOCKETS_PER_MEMBER = 2;
/** Concurrent sends of one client, each to a randomly chosen conversation. */
const IN_FLIGHT = 2;
const PAUSE_MS = { min: 10, max: 80 };
const ANSWER_SHARE = 0.02;
const READ_SHARE = 0.1;
const REPEAT_SHARE = 0.03;
const GUEST_PAUSE_MS = { min: 200, max: 900 };
const RETRY_MS = 50;
const POLL_MS = 20;
const FILLER_CHARS_MAX = 300;

export type Load = Awaited<ReturnType<typeof startLoad>>;

export async function registerPeople(world: World, members: number): Promise<People> {
  const [owner, guest, ...others] = await Promise.all(Array.from({ length: members + 1 }, () => world.register()));
  if (!owner || !guest) throw new Error("At least two members are needed.");
  return { owner, guest, members: [owner, ...others] };
}

/** Clients that write and watch until stopped. */
export async function startLoad(world: World, people: People, random: Random) {
  let step = 0;
  const steps: Steps = { next: () => ++step };
  const { owner, members, guest } = people;
  const others = members.filter((member) => member !== owner);
  const anyone = createTestClient(world.pickUrl(0));
  const conversations: string[] = [];
  for (let n = 0; n < CONVERSATIONS; n += 1) conversations.push((await createConversation(anyone, owner, others)).id);
  const [guestConversation = ""] = conversations;
  let isStopped = false;

  function createClient(account: Account, name: string, watched: string[], isGuest = false): Client {
    const ownRandom = random.fork();
    const pickUrl = () => world.pickUrl(ownRandom.int(0, 1_000));
    const client = new Client({ name, account, random: ownRandom, steps, pickUrl });
    for (const id of watched) client.watch(id, { isGuest });
    client.start();
    return client;
  }

  const writers = members.flatMap((account, n) =>
    Array.from({ length: SOCKETS_PER_MEMBER }, (_, socket) => createClient(account, `m${n}-${socket}`, conversations)),
  );
  const [asker] = writers;
  const clients = [...writers, createClient(guest, "guest", [guestConversation], true)];

  async function write(client: Client, ownRandom: Random): Promise<void> {
    // Makes sure that an answer is in progress when the fault is injected.
    if (client === asker) for (const id of conversations) await client.send(id, "Count.", { reply: true });
    while (!isStopped) {
      const conversation = ownRandom.pick(conversations);
      const filler = "ы".repeat(ownRandom.int(0, FILLER_CHARS_MAX));
      await client.send(conversation, `${client.name} says ${filler}`, { reply: ownRandom.next() < ANSWER_SHARE });
      const [last] = client.sends.filter(({ ackedStep }) => ackedStep !== null).slice(-1);
      if (last && ownRandom.next() < REPEAT_SHARE) await client.sendAgain(last);
      if (ownRandom.next() < READ_SHARE) await client.markRead(conversation);
      await Bun.sleep(ownRandom.int(PAUSE_MS.min, PAUSE_MS.max));
    }
  }

  /** Repeats the request on any instance until it succeeds. A repeat may find that it already did. */
  async function change(method: "POST" | "DELETE", doneStatuses: number[]): Promise<void> {
    const path = `/api/v1/conversations/${guestConversation}/members`;
    for (;;) {
      const anyInstance = createTestClient(world.pickUrl(random.int(0, 1_000)));
      const request =
        method === "POST"
          ? anyInstance.fetch(path, { token: owner.access_token, json: { user_id: guest.user.id } })
          : anyInstance.fetch(`${path}/${guest.user.id}`, { token: owner.access_token, method });
      const status = await request.then((response) => response.status).catch(() => 0);
      if (doneStatuses.includes(status)) return;
      await Bun.sleep(RETRY_MS);
    }
  }

  async function moveGuest(ownRandom: Random): Promise<void> {
    while (!isStopped) {
      await change("POST", [201, 200, 409]);
      await Bun.sleep(ownRandom.int(GUEST_PAUSE_MS.min, GUEST_PAUSE_MS.max));
      await change("DELETE", [204, 200, 404]);
      await Bun.sleep(ownRandom.int(GUEST_PAUSE_MS.min, GUEST_PAUSE_MS.max));
    }
    await change("POST", [201, 200, 409]);
  }

  const countAcked = () => clients.reduce((sum, { ackedCount }) => sum + ackedCount, 0);
  const running = [
    ...writers.flatMap((client) => Array.from({ length: IN_FLIGHT }, () => write(client, random.fork()))),
    moveGuest(random.fork()),
  ];

  return {
    clients,
    conversations,
    guest: { conversationId: guestConversation, userId: guest.user.id },

    /** Waits, without a timeout, until this many further messages are acknowledged. */
    async waitForAcks(count: number): Promise<void> {
      const target = countAcked() + count;
      while (countAcked() < target) await Bun.sleep(POLL_MS);
    },

    /** Resolves once every sent message is acknowledged; the clients stay connected. */
    async stopWriting(): Promise<void> {
      isStopped = true;
      await Promise.all(running);
    },

    /** Stops all clients, even in mid-send. */
    async stop(): Promise<void> {
      isStopped = true;
      await Promise.all(clients.map((client) => client.stop()));
    },
  };
}
