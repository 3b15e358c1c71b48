import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { type Database, openDatabase } from "../../src/db/client.ts";
import type { Account } from "../support/client.ts";
import { createConversation } from "../support/conversation.ts";
import { createRestClient } from "../support/rest.ts";
import type { Frame } from "../support/socket.ts";
import { range } from "./assemble-answer.ts";
import { type DatabaseServer, startDatabaseServer } from "./database-server.ts";
import { createInstallation, type Installation, type Parley, TEST_TIMEOUT_MS } from "./installation.ts";
import { createContent, type StoredMessage } from "./sender.ts";

setDefaultTimeout(TEST_TIMEOUT_MS);

const DURATION_MS = 8_000;
const CONVERSATIONS = 5;
/** Each sender has one socket per instance, and one worker per instance and conversation. */
const SENDERS = 3;
/** Maximum number of unacknowledged messages per worker. */
const IN_FLIGHT_PER_WORKER = 6;
const RETRY_MS = 50;

let server: DatabaseServer;
let installation: Installation;
let database: Database;
let instances: [Parley, Parley];
let owner: Account;
let senders: Account[];
const conversations: string[] = [];

beforeAll(async () => {
  server = await startDatabaseServer();
  const url = await server.createDatabase();
  installation = await createInstallation({ env: { DATABASE_URL: url, RATE_LIMIT_ENABLED: "false" } });
  instances = [await installation.start(), await installation.start()];
  database = openDatabase({ target: { url }, poolSize: 1 });
  owner = await instances[0].register();
  senders = await Promise.all(range(1, SENDERS).map(() => instances[0].register()));
  for (let n = 0; n < CONVERSATIONS; n += 1)
    conversations.push((await createConversation(instances[0], owner, senders)).id);
});
afterAll(async () => {
  await database?.end({ timeout: 1 });
  await installation?.remove();
  await server?.stop();
});

/** The acknowledged messages by conversation and client id. Edited messages have their new content. */
const ackedMessages = new Map<string, StoredMessage>();
/**
 * For each connection and conversation, the sequence numbers of the messages, in the order in which they were sent.
 * Sends that stored no message are undefined.
 */
const sentSeqs: (number | undefined)[][] = [];
/** The number of events of each kind. */
const eventCounts = { fresh: 0, repeated: 0, edits: 0, patches: 0, overloaded: 0 };
const hasStormEnded = (startedAtMs: number) => performance.now() - startedAtMs > DURATION_MS;

/** Records an ack. If the message was acknowledged before, both acks must have the same id and sequence number. */
function recordAck(conversationId: string, clientId: string, message: StoredMessage, isDuplicate: boolean): void {
  const key = `${conversationId} ${clientId}`;
  const earlierMessage = ackedMessages.get(key);
  if (earlierMessage)
    expect({ id: message.id, seq: message.seq }).toEqual({ id: earlierMessage.id, seq: earlierMessage.seq });
  else ackedMessages.set(key, message);
  eventCounts[isDuplicate ? "repeated" : "fresh"] += 1;
}

type Client = {
  request(frame: Record<string, unknown>): Promise<Frame>;
  close(): void;
  /** This connection's entries of the global `sentSeqs`, by conversation. */
  sentSeqs: Record<string, (number | undefined)[]>;
};

/** Opens a socket that can send frames concurrently. */
async function openClient(parley: Parley, { access_token }: Account): Promise<Client> {
  const options = { protocols: ["parley.v1"], headers: { authorization: `Bearer ${access_token}` } };
  const socket = new WebSocket(`${parley.url.replace("http", "ws")}/realtime`, options as unknown as string[]);
  const pendingRequests = new Map<string, (frame: Frame) => void>();
  let count = 0;
  await new Promise((resolve, reject) => {
    socket.onopen = resolve;
    socket.onerror = reject;
  });
  socket.onmessage = ({ data }) => {
    const frame = JSON.parse(String(data)) as Frame;
    if (frame.type !== "ack" && frame.type !== "error") return;
    pendingRequests.get(frame.id ?? "")?.(frame);
    pendingRequests.delete(frame.id ?? "");
  };
  const seqsByConversation: Client["sentSeqs"] = Object.fromEntries(conversations.map((id) => [id, []]));
  sentSeqs.push(...Object.values(seqsByConversation));
  return {
    sentSeqs: seqsByConversation,

    request(frame) {
      count += 1;
      const id = `f${count}`;
      socket.send(JSON.stringify({ ...frame, id }));
      return new Promise((resolve) => pendingRequests.set(id, resolve));
    },

    close: () => socket.close(1000),
  };
}

/** Resends a message until it is acknowledged, and records its sequence number at the index of the last attempt. */
async function sendFrame(client: Client, conversation_id: string, clientId: string): Promise<void> {
  const seqs = client.sentSeqs[conversation_id] ?? [];
  for (;;) {
    const index = seqs.push(undefined) - 1;
    const frame = { conversation_id, client_message_id: clientId, content: createContent(clientId), reply: false };
    const response = await client.request({ type: "message.send", ...frame });
    if (response.type === "ack") {
      const message = response.message as StoredMessage;
      if (!response.duplicate) seqs[index] = message.seq;
      recordAck(conversation_id, clientId, message, response.duplicate as boolean);
      return;
    }
    expect(response).toMatchObject({ type: "error", code: "overloaded", temporary: true });
    eventCounts.overloaded += 1;
    await Bun.sleep(RETRY_MS);
  }
}

/** Keeps messages in flight. Also sends some of them to the other instance, either at the same time or later. */
async function runSender(
  name: string,
  client: Client,
  otherClient: Client,
  conversationId: string,
  startedAtMs: number,
) {
  const pendingSends = new Set<Promise<void>>();
  for (let n = 1; !hasStormEnded(startedAtMs); n += 1) {
    const clientId = `${name}-${n}`;
    const sendMessage = async () => {
      const firstSend = sendFrame(client, conversationId, clientId);
      if (n % 10 === 5) await firstSend;
      if (n % 5 === 0) await sendFrame(otherClient, conversationId, clientId);
      await firstSend;
    };
    const pendingSend: Promise<void> = sendMessage().finally(() => pendingSends.delete(pendingSend));
    pendingSends.add(pendingSend);
    while (pendingSends.size >= IN_FLIGHT_PER_WORKER) await Promise.race(pendingSends);
  }
  await Promise.all(pendingSends);
}

/** Sends a request, and retries it while the server is overloaded. */
async function requestWithRetries<T>(
  rest: ReturnType<typeof createRestClient>,
  method: string,
  path: string,
  json: unknown,
) {
  for (;;) {
    const response = await rest.request<T>(method, path, json);
    if (response.status < 300) return response.body;
    expect(response).toMatchObject({ status: 503, body: { code: "overloaded" } });
    eventCounts.overloaded += 1;
    await Bun.sleep(RETRY_MS);
  }
}

/** Sends messages over REST, and edits each message and its conversation's title. */
async function runEditor(name: string, parley: Parley, startedAtMs: number) {
  const rest = createRestClient(parley, owner);
  const seqsByConversation: Record<string, number[]> = Object.fromEntries(conversations.map((id) => [id, []]));
  sentSeqs.push(...Object.values(seqsByConversation));
  for (let n = 1; !hasStormEnded(startedAtMs); n += 1) {
    const id = conversations[n % CONVERSATIONS] ?? "";
    const clientId = `${name}-${n}`;
    const input = { client_message_id: clientId, content: createContent(clientId), reply: false };
    type SendResponse = { message: StoredMessage };
    const { message } = await requestWithRetries<SendResponse>(rest, "POST", `/conversations/${id}/messages`, input);
    seqsByConversation[id]?.push(message.seq);
    recordAck(id, clientId, message, false);
    const content = `${createContent(clientId)}, edited`;
    await requestWithRetries(rest, "PATCH", `/conversations/${id}/messages/${message.id}`, { content });
    ackedMessages.set(`${id} ${clientId}`, { ...message, content });
    eventCounts.edits += 1;
    await requestWithRetries(rest, "PATCH", `/conversations/${id}`, { title: clientId });
    eventCounts.patches += 1;
  }
}

test("two instances write to the same conversations without deadlocks, gaps, duplicates or reordering", async () => {
  const clients = await Promise.all(
    senders.map((account) => Promise.all(instances.map((parley) => openClient(parley, account)))),
  );
  const startedAtMs = performance.now();
  await Promise.all([
    ...clients.flatMap(([firstClient, secondClient], sender) =>
      conversations.flatMap((id, index) => [
        runSender(`a${sender}-${index}`, firstClient as Client, secondClient as Client, id, startedAtMs),
        runSender(`b${sender}-${index}`, secondClient as Client, firstClient as Client, id, startedAtMs),
      ]),
    ),
    ...instances.map((parley, index) => runEditor(`e${index}`, parley, startedAtMs)),
  ]);
  for (const client of clients.flat()) client.close();
  expect(eventCounts.fresh).toBeGreaterThan(1_000);
  expect(eventCounts.repeated).toBeGreaterThan(100);
  expect(Math.min(eventCounts.edits, eventCounts.patches)).toBeGreaterThan(4);

  let storedCount = 0;
  for (const id of conversations) {
    const messages = await database<StoredMessage[]>`
      select id, seq, content, client_message_id from messages where conversation_id = ${id} order by seq`;
    storedCount += messages.length;
    expect(new Set(messages.map((message) => message.client_message_id)).size).toBe(messages.length);
    const mismatches = messages.filter(({ id: messageId, seq, content, client_message_id }) => {
      const ackedMessage = ackedMessages.get(`${id} ${client_message_id}`);
      return ackedMessage?.id !== messageId || ackedMessage.seq !== seq || ackedMessage.content !== content;
    });
    expect(mismatches).toEqual([]);
    const [numbers] = await database<{ seqs: number[]; last: number }[]>`
      select (select array_agg(seq::int order by seq) from (
          select seq from messages where conversation_id = ${id}
          union all select seq from events where conversation_id = ${id}) s) as seqs,
        (select last_seq from conversations where id = ${id}) as last`;
    expect(numbers?.seqs).toEqual(range(1, numbers?.last ?? 0));
  }
  // Every stored message was acknowledged. Because the counts are equal, every acknowledged message is stored, too.
  expect(storedCount).toBe(ackedMessages.size);
  for (const seqs of sentSeqs) {
    const storedSeqs = seqs.filter((seq) => seq !== undefined);
    expect(storedSeqs).toEqual(storedSeqs.toSorted((a, b) => a - b));
  }

  for (const parley of instances) expect((await parley.stop()).code).toBe(0);
  const [state] = await database`select deadlocks::int from pg_stat_database where datname = current_database()`;
  expect(state).toEqual({ deadlocks: 0 });
  expect(installation.readLog().match(/.*"level":"(?:error|fatal)".*/g)).toBeNull();
});
