import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import type { Account } from "../support/client.ts";
import { createConversation } from "../support/conversation.ts";
import type { Frame } from "../support/socket.ts";
import { range } from "./assemble-answer.ts";
import { type DatabaseServer, startDatabaseServer } from "./database-server.ts";
import { createInstallation, type Installation, type Parley, TEST_TIMEOUT_MS } from "./installation.ts";
import { fetchHistory } from "./sender.ts";

setDefaultTimeout(3 * TEST_TIMEOUT_MS);

const STALL_MS = 30_000;
const ACCOUNTS = 20;
const SOCKETS_PER_ACCOUNT = 50;
/** The number of unacknowledged messages per socket. All of them together exceed the server's queue. */
const IN_FLIGHT_PER_SOCKET = 25;
const CONTENT = "x".repeat(500);
/** Maximum memory growth while messages are queued and rejected. */
const MEMORY_GROWTH_MB_MAX = 250;
/** Minimum number of acks before the stall, and minimum number of acks after it. */
const ACKS_MIN = 5_000;
const POLL_MS = 50;

let server: DatabaseServer;
let installation: Installation;
let parley: Parley;
beforeAll(async () => {
  server = await startDatabaseServer();
  installation = await createInstallation({
    env: { DATABASE_URL: await server.createDatabase(), RATE_LIMIT_ENABLED: "false" },
  });
  parley = await installation.start();
});
afterAll(async () => {
  await installation?.remove();
  await server?.stop();
});

/** Signals all processes of the Postgres server. Suspended processes don't respond, but their connections stay open. */
function signalServer(signal: NodeJS.Signals): void {
  const pid = server.findPid();
  const children = Bun.spawnSync(["pgrep", "-P", String(pid)]).stdout.toString();
  for (const processId of [pid, ...children.split("\n").filter(Boolean).map(Number)]) process.kill(processId, signal);
}

const readMemoryMb = (): number =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${parley.pid}/status`, "utf8"))?.[1]) / 1024;

type Sender = { conversationId: string; ackedIds: Set<string>; pendingIds: Set<string>; stop(): void };
const errorCounts = new Map<string, number>();
const retryAfterMs = new Set<number>();

/** Starts a client that keeps a fixed number of messages in flight, and resends rejected ones after `retry_after_ms`. */
async function startSender(account: Account, conversation_id: string, name: string): Promise<Sender> {
  const options = { protocols: ["parley.v1"], headers: { authorization: `Bearer ${account.access_token}` } };
  const socket = new WebSocket(`${parley.url.replace("http", "ws")}/realtime`, options as unknown as string[]);
  const sender: Sender = {
    conversationId: conversation_id,
    ackedIds: new Set(),
    pendingIds: new Set(),
    stop() {
      isStopped = true;
    },
  };
  let isStopped = false;
  let count = 0;
  const sendMessage = (id: string) => {
    sender.pendingIds.add(id);
    const frame = { conversation_id, client_message_id: id, content: CONTENT, reply: false };
    socket.send(JSON.stringify({ type: "message.send", id, ...frame }));
  };
  const sendNext = () => {
    count += 1;
    if (!isStopped) sendMessage(`${name}-${count}`);
  };
  socket.onmessage = ({ data }) => {
    const frame = JSON.parse(String(data)) as Frame;
    if (frame.type === "ready") for (let n = 0; n < IN_FLIGHT_PER_SOCKET; n += 1) sendNext();
    if (frame.type !== "ack" && frame.type !== "error") return;
    const id = frame.id ?? "";
    sender.pendingIds.delete(id);
    if (frame.type === "ack") {
      sender.ackedIds.add(id);
      sendNext();
      return;
    }
    errorCounts.set(frame.code ?? "", (errorCounts.get(frame.code ?? "") ?? 0) + 1);
    retryAfterMs.add(Number(frame.retry_after_ms));
    setTimeout(() => (isStopped ? undefined : sendMessage(id)), Number(frame.retry_after_ms));
  };
  await new Promise((resolve, reject) => {
    socket.onopen = resolve;
    socket.onerror = reject;
  });
  return sender;
}

test("if Postgres stalls under load from 1,000 sockets, sends are rejected to bound memory, and no message is lost", async () => {
  const accounts = await Promise.all(range(1, ACCOUNTS).map(() => parley.register()));
  const conversations = await Promise.all(
    accounts.map(async (account) => (await createConversation(parley, account)).id),
  );
  const senders = await Promise.all(
    range(0, ACCOUNTS * SOCKETS_PER_ACCOUNT - 1).map((n) =>
      startSender(accounts[n % ACCOUNTS] as Account, conversations[n % ACCOUNTS] ?? "", `s${n}`),
    ),
  );
  const countAcked = () => senders.reduce((sum, { ackedIds }) => sum + ackedIds.size, 0);
  while (countAcked() < ACKS_MIN) await Bun.sleep(POLL_MS);
  const memoryBeforeMb = readMemoryMb();

  signalServer("SIGSTOP");
  const stalledAtMs = performance.now();
  let peakMb = 0;
  let readyStatus = 200;
  try {
    while (performance.now() - stalledAtMs < STALL_MS) {
      await Bun.sleep(250);
      peakMb = Math.max(peakMb, readMemoryMb());
      readyStatus = (await parley.fetch("/readyz")).status;
    }
  } finally {
    signalServer("SIGCONT");
  }
  const errorCountsDuringStall = new Map(errorCounts);
  const ackedCountAtStall = countAcked();
  expect(readyStatus).toBe(503);
  expect([...errorCountsDuringStall.keys()]).toEqual(["overloaded"]);
  expect(peakMb - memoryBeforeMb).toBeLessThan(MEMORY_GROWTH_MB_MAX);
  // `retry_after_ms` has jitter.
  expect(Math.max(...retryAfterMs) - Math.min(...retryAfterMs)).toBeGreaterThan(1_000);

  while ((await parley.fetch("/readyz")).status !== 200) await Bun.sleep(POLL_MS);
  while (countAcked() < ackedCountAtStall + ACKS_MIN) await Bun.sleep(POLL_MS);
  for (const sender of senders) sender.stop();
  while (senders.some(({ pendingIds }) => pendingIds.size > 0)) await Bun.sleep(POLL_MS);

  // Every acknowledged message is stored once.
  for (const [n, id] of conversations.entries()) {
    const history = await fetchHistory(parley, accounts[n] as Account, id);
    const storedIds = new Set(history.map(({ client_message_id }) => client_message_id));
    expect(storedIds.size).toBe(history.length);
    const conversationAckedIds = senders.flatMap((sender) =>
      sender.conversationId === id ? [...sender.ackedIds] : [],
    );
    expect(conversationAckedIds.filter((clientId) => !storedIds.has(clientId))).toEqual([]);
  }
  expect((await parley.stop()).code).toBe(0);
});
