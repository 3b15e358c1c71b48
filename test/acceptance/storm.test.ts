import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { type Database, openDatabase } from "../../src/db/client.ts";
import type { Account } from "../support/client.ts";
import { createConversation } from "../support/conversation.ts";
import { createRest } from "../support/rest.ts";
import type { Frame } from "../support/socket.ts";
import { type DatabaseServer, startDatabaseServer } from "./database-server.ts";
import { contentOf, type StoredMessage } from "./load.ts";
import { range } from "./reader.ts";
import { createSite, type Parley, type Site, TEST_TIMEOUT_MS } from "./site.ts";

setDefaultTimeout(TEST_TIMEOUT_MS);

const STORM_MS = 8_000;
const CONVERSATIONS = 5;
/** Each with a socket to both instances, and one worker per instance and conversation. */
const SENDERS = 3;
/** Unacknowledged messages per worker. */
const IN_FLIGHT = 6;
const RETRY_MS = 50;

let server: DatabaseServer;
let site: Site;
let database: Database;
let instances: [Parley, Parley];
let owner: Account;
let senders: Account[];
const conversations: string[] = [];

beforeAll(async () => {
  server = await startDatabaseServer();
  const url = await server.createDatabase();
  site = await createSite({ env: { DATABASE_URL: url, RATE_LIMIT_ENABLED: "false" } });
  instances = [await site.start(), await site.start()];
  database = openDatabase({ target: { url }, poolSize: 1 });
  owner = await instances[0].register();
  senders = await Promise.all(range(1, SENDERS).map(() => instances[0].register()));
  for (let n = 0; n < CONVERSATIONS; n += 1)
    conversations.push((await createConversation(instances[0], owner, senders)).id);
});
afterAll(async () => {
  await database?.end({ timeout: 1 });
  await site?.remove();
  await server?.stop();
});

/** Every acknowledged message by conversation and client id, with its expected final text. */
const acked = new Map<string, StoredMessage>();
/** Per connection and conversation: the sequence numbers of its messages in sending order. */
const orders: (number | undefined)[][] = [];
/** How often each thing happened. */
const counts = { fresh: 0, repeated: 0, edits: 0, patches: 0, overloaded: 0 };
const isOver = (startedAtMs: number) => performance.now() - startedAtMs > STORM_MS;

/** Records an acknowledgement; a message acknowledged before must be the same. */
function record(conversationId: string, clientId: string, message: StoredMessage, isDuplicate: boolean): void {
  const key = `${conversationId} ${clientId}`;
  const known = acked.get(key);
  if (known) expect({ id: message.id, seq: message.seq }).toEqual({ id: known.id, seq: known.seq });
  else acked.set(key, message);
  counts[isDuplicate ? "repeated" : "fresh"] += 1;
}

type Client = {
  ask(frame: Record<string, unknown>): Promise<Frame>;
  close(): void;
  /** By conversation, an entry of `orders`. */
  orders: Record<string, (number | undefined)[]>;
};

/** A socket for concurrent frames. */
async function openClient(parley: Parley, { access_token }: Account): Promise<Client> {
  const options = { protocols: ["parley.v1"], headers: { authorization: `Bearer ${access_token}` } };
  const socket = new WebSocket(`${parley.url.replace("http", "ws")}/realtime`, options as unknown as string[]);
  const waiting = new Map<string, (frame: Frame) => void>();
  let count = 0;
  await new Promise((resolve, reject) => {
    socket.onopen = resolve;
    socket.onerror = reject;
  });
  socket.onmessage = ({ data }) => {
    const frame = JSON.parse(String(data)) as Frame;
    if (frame.type !== "ack" && frame.type !== "error") return;
    waiting.get(frame.id ?? "")?.(frame);
    waiting.delete(frame.id ?? "");
  };
  const ownOrders: Client["orders"] = Object.fromEntries(conversations.map((id) => [id, []]));
  orders.push(...Object.values(ownOrders));
  return {
    orders: ownOrders,

    ask(frame) {
      count += 1;
      const id = `f${count}`;
      socket.send(JSON.stringify({ ...frame, id }));
      return new Promise((resolve) => waiting.set(id, resolve));
    },

    close: () => socket.close(1000),
  };
}

/** Sends one message until it is acknowledged; each attempt has an index in the connection's order. */
async function sendFrame(client: Client, conversation_id: string, clientId: string): Promise<void> {
  const order = client.orders[conversation_id] ?? [];
  for (;;) {
    const index = order.push(undefined) - 1;
    const frame = { conversation_id, client_message_id: clientId, content: contentOf(clientId), reply: false };
    const answer = await client.ask({ type: "message.send", ...frame });
    if (answer.type === "ack") {
      const message = answer.message as StoredMessage;
      if (!answer.duplicate) order[index] = message.seq;
      record(conversation_id, clientId, message, answer.duplicate as boolean);
      return;
    }
    expect(answer).toMatchObject({ type: "error", code: "overloaded", temporary: true });
    counts.overloaded += 1;
    await Bun.sleep(RETRY_MS);
  }
}

/** Keeps messages in flight, and sends some of them over the other instance too, concurrently or later. */
async function runSender(name: string, client: Client, other: Client, conversationId: string, startedAtMs: number) {
  const pending = new Set<Promise<void>>();
  for (let n = 1; !isOver(startedAtMs); n += 1) {
    const clientId = `${name}-${n}`;
    const send = async () => {
      const first = sendFrame(client, conversationId, clientId);
      if (n % 10 === 5) await first;
      if (n % 5 === 0) await sendFrame(other, conversationId, clientId);
      await first;
    };
    const sending: Promise<void> = send().finally(() => pending.delete(sending));
    pending.add(sending);
    while (pending.size >= IN_FLIGHT) await Promise.race(pending);
  }
  await Promise.all(pending);
}

/** Retries while the server is overloaded. */
async function askWithRetries<T>(rest: ReturnType<typeof createRest>, method: string, path: string, json: unknown) {
  for (;;) {
    const answer = await rest.request<T>(method, path, json);
    if (answer.status < 300) return answer.body;
    expect(answer).toMatchObject({ status: 503, body: { code: "overloaded" } });
    counts.overloaded += 1;
    await Bun.sleep(RETRY_MS);
  }
}

/** Over REST, one by one: sends into each conversation, edits the message, and changes the conversation's title. */
async function runEditor(name: string, parley: Parley, startedAtMs: number) {
  const rest = createRest(parley, owner);
  const numbers: Record<string, number[]> = Object.fromEntries(conversations.map((id) => [id, []]));
  orders.push(...Object.values(numbers));
  for (let n = 1; !isOver(startedAtMs); n += 1) {
    const id = conversations[n % CONVERSATIONS] ?? "";
    const clientId = `${name}-${n}`;
    const input = { client_message_id: clientId, content: contentOf(clientId), reply: false };
    type Sent = { message: StoredMessage };
    const { message } = await askWithRetries<Sent>(rest, "POST", `/conversations/${id}/messages`, input);
    numbers[id]?.push(message.seq);
    record(id, clientId, message, false);
    const content = `${contentOf(clientId)}, edited`;
    await askWithRetries(rest, "PATCH", `/conversations/${id}/messages/${message.id}`, { content });
    acked.set(`${id} ${clientId}`, { ...message, content });
    counts.edits += 1;
    await askWithRetries(rest, "PATCH", `/conversations/${id}`, { title: clientId });
    counts.patches += 1;
  }
}

test("two processes write into the same conversations: each message once, in order, without gaps or deadlocks", async () => {
  const clients = await Promise.all(
    senders.map((account) => Promise.all(instances.map((parley) => openClient(parley, account)))),
  );
  const startedAtMs = performance.now();
  await Promise.all([
    ...clients.flatMap(([here, there], sender) =>
      conversations.flatMap((id, index) => [
        runSender(`a${sender}-${index}`, here as Client, there as Client, id, startedAtMs),
        runSender(`b${sender}-${index}`, there as Client, here as Client, id, startedAtMs),
      ]),
    ),
    ...instances.map((parley, index) => runEditor(`e${index}`, parley, startedAtMs)),
  ]);
  for (const client of clients.flat()) client.close();
  expect(counts.fresh).toBeGreaterThan(1_000);
  expect(counts.repeated).toBeGreaterThan(100);
  expect(Math.min(counts.edits, counts.patches)).toBeGreaterThan(4);

  let stored = 0;
  for (const id of conversations) {
    const messages = await database<StoredMessage[]>`
      select id, seq, content, client_message_id from messages where conversation_id = ${id} order by seq`;
    stored += messages.length;
    const byClientId = new Map(messages.map((message) => [message.client_message_id, message]));
    expect(byClientId.size).toBe(messages.length);
    const wrong = messages.filter(({ id: messageId, seq, content, client_message_id }) => {
      const known = acked.get(`${id} ${client_message_id}`);
      return known?.id !== messageId || known.seq !== seq || known.content !== content;
    });
    expect(wrong).toEqual([]);
    const [numbers] = await database<{ seqs: number[]; last: number }[]>`
      select (select array_agg(seq::int order by seq) from (
          select seq from messages where conversation_id = ${id}
          union all select seq from events where conversation_id = ${id}) s) as seqs,
        (select last_seq from conversations where id = ${id}) as last`;
    expect(numbers?.seqs).toEqual(range(1, numbers?.last ?? 0));
  }
  // Each stored message was acknowledged; equal counts mean that each acknowledged one is stored.
  expect(stored).toBe(acked.size);
  for (const order of orders) {
    const numbers = order.filter((seq) => seq !== undefined);
    expect(numbers).toEqual(numbers.toSorted((one, another) => one - another));
  }

  for (const parley of instances) expect((await parley.stop()).code).toBe(0);
  const [state] = await database`select deadlocks::int from pg_stat_database where datname = current_database()`;
  expect(state).toEqual({ deadlocks: 0 });
  expect(site.readLog().match(/.*"level":"(?:error|fatal)".*/g)).toBeNull();
});
