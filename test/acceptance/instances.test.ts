import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import type { Account } from "../support/client.ts";
import { createConversation } from "../support/conversation.ts";
import { startRedis, type TestRedis } from "../support/redis.ts";
import { openSocket, type TestSocket } from "../support/socket.ts";
import { waitUntil } from "../support/wait-until.ts";
import { type DatabaseServer, startDatabaseServer } from "./database-server.ts";
import { createInstallation, type Installation, type Parley, TEST_TIMEOUT_MS } from "./installation.ts";

setDefaultTimeout(2 * TEST_TIMEOUT_MS);

/** Timeout for presence updates after an instance is killed. The updates usually take about five seconds. */
const OFFLINE_TIMEOUT_MS = 20_000;
const SEND_PAUSE_MS = 15;
const PAGE_ROWS = 100;

let server: DatabaseServer | undefined;
let redis: TestRedis | undefined;
afterAll(async () => {
  await redis?.stop();
  await server?.stop();
});

type Member = { account: Account; socket: TestSocket; ackedIds: string[]; sendLoop?: Promise<void> };

/** Sends messages until `signal` is aborted, and records the ids of the acknowledged messages. */
function startSending(member: Member, conversation_id: string, signal: AbortSignal): Promise<void> {
  const sendMessage = async (n: number) => {
    const client_message_id = `${member.account.user.id}-${n}`;
    const content = `${n} ${"é😀".repeat(n % 40)}`;
    const response = await member.socket
      .request({ type: "message.send", conversation_id, content, client_message_id })
      .catch(() => null);
    if (response?.type === "ack") member.ackedIds.push(client_message_id);
  };
  return (async () => {
    for (let n = 0; !signal.aborted && member.socket.socket.readyState === WebSocket.OPEN; n += 1) {
      await sendMessage(n);
      await Bun.sleep(SEND_PAUSE_MS);
    }
  })();
}

/** Fetches all messages in a conversation. */
async function listMessages(parley: Parley, { access_token }: Account, conversationId: string) {
  const messages: { seq: number; id: string; client_message_id: string | null }[] = [];
  for (let after = 0; ; after = messages.at(-1)?.seq ?? 0) {
    const path = `/api/v1/conversations/${conversationId}/messages?after_seq=${after}&limit=${PAGE_ROWS}`;
    const { data } = (await (await parley.fetch(path, { token: access_token })).json()) as { data: typeof messages };
    if (data.length === 0) return messages;
    messages.push(...data.toSorted((a, b) => a.seq - b.seq));
  }
}

const listReceivedMessages = ({ socket }: Member) =>
  socket.list("message.created").map(({ seq, data }) => ({ seq, id: data?.id }));

for (const busName of ["Redis", "Postgres"] as const)
  test(`after an instance is killed under load (${busName} bus), its user is shown as offline, and other users miss no messages`, async () => {
    server ??= await startDatabaseServer();
    if (busName === "Redis") redis = await startRedis();
    const env = {
      DATABASE_URL: await server.createDatabase(),
      JWT_SECRET: "a secret that only tests know: 0123456789",
      RATE_LIMIT_ENABLED: "false",
      ...(busName === "Redis" && redis && { REDIS_URL: redis.url }),
    };
    const installation: Installation = await createInstallation({ env });
    try {
      const parleys = [await installation.start(), await installation.start(), await installation.start()] as const;
      const accounts = await Promise.all(parleys.map((parley) => parley.register()));
      const [owner] = accounts as [Account];
      const { id: conversation_id } = await createConversation(parleys[0], owner, accounts.slice(1));
      const members: Member[] = [];
      for (const [n, parley] of parleys.entries()) {
        const account = accounts[n] as Account;
        const socket = await openSocket(parley.url, { token: account.access_token });
        await socket.request({ type: "subscribe", conversation_id });
        members.push({ account, socket, ackedIds: [] });
      }
      const [firstMember, secondMember, killedMember] = members as [Member, Member, Member];
      const stopController = new AbortController();
      for (const member of members) member.sendLoop = startSending(member, conversation_id, stopController.signal);
      await waitUntil(() => members.every(({ ackedIds }) => ackedIds.length > 20));

      // The bus fails and recovers. Then an instance is killed while its user is typing.
      if (busName === "Redis") {
        await redis?.kill();
        await Bun.sleep(1_000);
        await redis?.start();
      }
      await waitUntil(async () => {
        const bodies = await Promise.all(parleys.map(async ({ url }) => (await fetch(`${url}/readyz?verbose`)).text()));
        return bodies.every((body) => body.includes("[+]bus ok"));
      });
      killedMember.socket.send({ type: "typing.start", conversation_id });
      const isKilledUser = (user_id: unknown) => user_id === killedMember.account.user.id;
      await firstMember.socket.waitFor(
        ({ type, active, user_id }) => type === "typing" && active === true && isKilledUser(user_id),
      );
      await parleys[2].kill();
      for (const { socket } of [firstMember, secondMember]) {
        await socket.waitFor(
          ({ type, active, user_id }) => type === "typing" && active === false && isKilledUser(user_id),
          OFFLINE_TIMEOUT_MS,
        );
        await socket.waitFor(
          ({ type, online, user_id }) => type === "presence" && online === false && isKilledUser(user_id),
          OFFLINE_TIMEOUT_MS,
        );
      }
      const lateSocket = await openSocket(parleys[1].url, { token: firstMember.account.access_token });
      const { members_online } = await lateSocket.request({ type: "subscribe", conversation_id });
      expect(members_online).not.toContain(killedMember.account.user.id);

      stopController.abort();
      await Promise.all([firstMember, secondMember].map(({ sendLoop }) => sendLoop));
      const storedMessages = await listMessages(parleys[0], firstMember.account, conversation_id);
      const ids = storedMessages.map(({ client_message_id }) => client_message_id);
      expect(new Set(ids).size).toBe(ids.length);
      for (const { ackedIds } of members) expect(ackedIds.filter((id) => !ids.includes(id))).toEqual([]);
      await waitUntil(() =>
        [firstMember, secondMember].every(
          (member) => listReceivedMessages(member).at(-1)?.seq === storedMessages.at(-1)?.seq,
        ),
      );
      for (const member of [firstMember, secondMember]) {
        const received = listReceivedMessages(member);
        const firstSeq = received[0]?.seq ?? 0;
        expect(received).toEqual(storedMessages.flatMap(({ seq, id }) => (seq >= firstSeq ? [{ seq, id }] : [])));
      }
      await Promise.all([firstMember.socket.close(), secondMember.socket.close(), lateSocket.close()]);
    } finally {
      await installation.remove();
    }
  });
