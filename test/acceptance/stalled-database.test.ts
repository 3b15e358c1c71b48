import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import type { Account } from "../support/client.ts";
import { createConversation } from "../support/conversation.ts";
import type { Frame } from "../support/socket.ts";
import { type DatabaseServer, startDatabaseServer } from "./database-server.ts";
import { readHistory } from "./load.ts";
import { range } from "./reader.ts";
import { createSite, type Parley, type Site, TEST_TIMEOUT_MS } from "./site.ts";

setDefaultTimeout(3 * TEST_TIMEOUT_MS);

const STALL_MS = 30_000;
const ACCOUNTS = 20;
const SOCKETS_EACH = 50;
/** Unacknowledged messages per socket; in total more than the server queues. */
const IN_FLIGHT = 25;
const CONTENT = "x".repeat(500);
/** The limit on memory for queued messages and refusals. */
const GROWTH_MAX_MB = 250;
/** Acknowledgements required before the stall, and after it. */
const ACKED_MIN = 5_000;
const POLL_MS = 50;

let server: DatabaseServer;
let site: Site;
let parley: Parley;
beforeAll(async () => {
  server = await startDatabaseServer();
  site = await createSite({ env: { DATABASE_URL: await server.createDatabase(), RATE_LIMIT_ENABLED: "false" } });
  parley = await site.start();
});
afterAll(async () => {
  await site?.remove();
  await server?.stop();
});

/** Signals all processes of the Postgres server. Stopped, they don't respond, but connections stay open. */
function signalServer(signal: NodeJS.Signals): void {
  const pid = server.findPid();
  const children = Bun.spawnSync(["pgrep", "-P", String(pid)]).stdout.toString();
  for (const one of [pid, ...children.split("\n").filter(Boolean).map(Number)]) process.kill(one, signal);
}

const readMemoryMb = (): number =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${parley.pid}/status`, "utf8"))?.[1]) / 1024;

type Sender = { conversationId: string; acked: Set<string>; unanswered: Set<string>; stop(): void };
const codes = new Map<string, number>();
const retryAfterMs = new Set<number>();

/** Keeps messages in flight; resends a rejected one after its `retry_after_ms`. */
async function startSender(account: Account, conversation_id: string, name: string): Promise<Sender> {
  const options = { protocols: ["parley.v1"], headers: { authorization: `Bearer ${account.access_token}` } };
  const socket = new WebSocket(`${parley.url.replace("http", "ws")}/realtime`, options as unknown as string[]);
  const sender: Sender = {
    conversationId: conversation_id,
    acked: new Set(),
    unanswered: new Set(),
    stop() {
      isStopped = true;
    },
  };
  let isStopped = false;
  let count = 0;
  const send = (id: string) => {
    sender.unanswered.add(id);
    const frame = { conversation_id, client_message_id: id, content: CONTENT, reply: false };
    socket.send(JSON.stringify({ type: "message.send", id, ...frame }));
  };
  const sendNext = () => {
    count += 1;
    if (!isStopped) send(`${name}-${count}`);
  };
  socket.onmessage = ({ data }) => {
    const frame = JSON.parse(String(data)) as Frame;
    if (frame.type === "ready") for (let n = 0; n < IN_FLIGHT; n += 1) sendNext();
    if (frame.type !== "ack" && frame.type !== "error") return;
    const id = frame.id ?? "";
    sender.unanswered.delete(id);
    if (frame.type === "ack") {
      sender.acked.add(id);
      sendNext();
      return;
    }
    codes.set(frame.code ?? "", (codes.get(frame.code ?? "") ?? 0) + 1);
    retryAfterMs.add(Number(frame.retry_after_ms));
    setTimeout(() => (isStopped ? undefined : send(id)), Number(frame.retry_after_ms));
  };
  await new Promise((resolve, reject) => {
    socket.onopen = resolve;
    socket.onerror = reject;
  });
  return sender;
}

test("if Postgres stalls under the load of 1,000 sockets, sends are rejected before memory grows, and nothing is lost", async () => {
  const accounts = await Promise.all(range(1, ACCOUNTS).map(() => parley.register()));
  const conversations = await Promise.all(
    accounts.map(async (account) => (await createConversation(parley, account)).id),
  );
  const senders = await Promise.all(
    range(0, ACCOUNTS * SOCKETS_EACH - 1).map((n) =>
      startSender(accounts[n % ACCOUNTS] as Account, conversations[n % ACCOUNTS] ?? "", `s${n}`),
    ),
  );
  const countAcked = () => senders.reduce((sum, { acked }) => sum + acked.size, 0);
  while (countAcked() < ACKED_MIN) await Bun.sleep(POLL_MS);
  const before = readMemoryMb();

  signalServer("SIGSTOP");
  const stalledAtMs = performance.now();
  let most = 0;
  let readyStatus = 200;
  try {
    while (performance.now() - stalledAtMs < STALL_MS) {
      await Bun.sleep(250);
      most = Math.max(most, readMemoryMb());
      readyStatus = (await parley.fetch("/readyz")).status;
    }
  } finally {
    signalServer("SIGCONT");
  }
  const stalledCodes = new Map(codes);
  const ackedAtStall = countAcked();
  expect(readyStatus).toBe(503);
  expect([...stalledCodes.keys()]).toEqual(["overloaded"]);
  expect(most - before).toBeLessThan(GROWTH_MAX_MB);
  // The retries are spread out.
  expect(Math.max(...retryAfterMs) - Math.min(...retryAfterMs)).toBeGreaterThan(1_000);

  while ((await parley.fetch("/readyz")).status !== 200) await Bun.sleep(POLL_MS);
  while (countAcked() < ackedAtStall + ACKED_MIN) await Bun.sleep(POLL_MS);
  for (const sender of senders) sender.stop();
  while (senders.some(({ unanswered }) => unanswered.size > 0)) await Bun.sleep(POLL_MS);

  // Every acknowledged message is stored, once.
  for (const [n, id] of conversations.entries()) {
    const history = await readHistory(parley, accounts[n] as Account, id);
    const stored = new Set(history.map(({ client_message_id }) => client_message_id));
    expect(stored.size).toBe(history.length);
    const acked = senders.flatMap((sender) => (sender.conversationId === id ? [...sender.acked] : []));
    expect(acked.filter((clientId) => !stored.has(clientId))).toEqual([]);
  }
  expect((await parley.stop()).code).toBe(0);
});
