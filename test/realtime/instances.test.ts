import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { openStream } from "../support/event-stream.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { startRedis, type TestRedis } from "../support/redis.ts";
import { type Frame, openSocket, type TestSocket } from "../support/socket.ts";
import { waitUntil } from "../support/wait-until.ts";

/** Makes Parley expect other instances. Parley never connects to this database, because the tests pass a database directly. */
const PLACEHOLDER_DATABASE_URL = "postgres://parley@localhost/parley";

/** Assembles the text of an answer as a client does, and throws an error if deltas have gaps or repeats. */
function assembleText(frames: Frame[], messageId: string): string {
  let text = "";
  let attempt = 0;
  for (const frame of frames) {
    const isCreated = frame.type === "message.created" && frame.data?.id === messageId;
    if (isCreated) text = String(frame.data?.content ?? "");
    if (frame.message_id !== messageId) continue;
    if (frame.type === "message.reset") {
      text = String(frame.text);
      attempt = Number(frame.attempt);
    } else if (frame.type === "message.delta") {
      attempt ||= Number(frame.attempt);
      if (frame.attempt !== attempt || frame.offset !== text.length)
        throw new Error(
          `Expected a delta at offset ${text.length} of attempt ${attempt}, but got one at ${frame.offset} of ${frame.attempt}.`,
        );
      text += String(frame.text);
    }
  }
  return text;
}

const findCompletedMessage = (frames: Frame[], messageId: string) =>
  frames.find(({ type, data }) => type === "message.completed" && data?.id === messageId)?.data;

for (const transport of ["Redis", "Postgres"] as const)
  describe(`three instances over ${transport}`, () => {
    let redis: TestRedis | undefined;
    let provider: MockProvider;
    let database: Awaited<ReturnType<typeof createTestDatabase>>;
    let apps: TestApp[] = [];
    let anna: Account;
    let ben: Account;
    let conversation_id: string;
    const sockets: TestSocket[] = [];

    beforeAll(async () => {
      provider = startMockProvider();
      if (transport === "Redis") redis = await startRedis();
      database = await createTestDatabase(20);
      const config: Record<string, string> = {
        DATABASE_URL: PLACEHOLDER_DATABASE_URL,
        COMPATIBLE_BASE_URL: provider.openaiUrl,
        AI_MODELS: "compatible/one",
        AI_MAX_RETRIES: "0",
        ...(redis && { REDIS_URL: redis.url }),
      };
      for (let n = 0; n < 3; n += 1) apps.push(await startApp({ database, config }));
      await waitUntil(async () => (await Promise.all(apps.map(isBusHealthy))).every(Boolean));
      anna = await getApp(0).register();
      ben = await getApp(0).register();
      conversation_id = (await createConversation(getApp(0), anna, [ben])).id;
    });
    afterAll(async () => {
      await Promise.all(sockets.map((socket) => socket.close()));
      await Promise.all(apps.map((app) => app.stop()));
      apps = [];
      await redis?.stop();
      await database.database.end({ timeout: 1 });
      await provider.stop();
    });

    const getApp = (n: number): TestApp => apps[n] as TestApp;
    async function isBusHealthy(app: TestApp): Promise<boolean> {
      const response = await fetch(`${app.url}/readyz?verbose`);
      return (await response.text()).includes("[+]bus ok");
    }
    async function connectTo(n: number, account: Account): Promise<TestSocket> {
      const socket = await openSocket(getApp(n).url, { token: account.access_token });
      sockets.push(socket);
      return socket;
    }
    async function subscribe(n: number, account: Account, conversation = conversation_id) {
      const socket = await connectTo(n, account);
      const ack = await socket.request({ type: "subscribe", conversation_id: conversation });
      return { socket, ack };
    }
    const sendMessage = (socket: TestSocket, content: string, fields: object = {}) =>
      socket.request({
        type: "message.send",
        conversation_id,
        content,
        client_message_id: crypto.randomUUID(),
        ...fields,
      });

    test("each ack lists the members who are online on any instance", async () => {
      const firstSubscription = await subscribe(0, anna);
      expect(firstSubscription.ack.members_online).toEqual([anna.user.id]);
      const secondSubscription = await subscribe(1, ben);
      expect((secondSubscription.ack.members_online as string[]).sort()).toEqual([anna.user.id, ben.user.id].sort());
      await firstSubscription.socket.waitFor(
        ({ type, user_id, online }) => type === "presence" && user_id === ben.user.id && online === true,
      );
      await firstSubscription.socket.close();
      await secondSubscription.socket.waitFor(
        ({ type, user_id, online }) => type === "presence" && user_id === anna.user.id && online === false,
      );
      const thirdSubscription = await subscribe(2, ben);
      expect(thirdSubscription.ack.members_online).toEqual([ben.user.id]);
      await Promise.all([secondSubscription.socket.close(), thirdSubscription.socket.close()]);
    });

    test("all clients receive the same messages in the same order, whichever instance they are sent to", async () => {
      const subscriptions = await Promise.all([subscribe(0, anna), subscribe(1, ben), subscribe(2, anna)]);
      const watchers = subscriptions.map(({ socket }) => socket);
      const contents = Array.from({ length: 60 }, (_, n) => `${n}: ${"текст 😀 ".repeat(n * 10)}`);
      await Promise.all(contents.map((content, n) => sendMessage(watchers[n % 3] as TestSocket, content)));
      const listSeqs = ({ frames }: TestSocket) =>
        frames.flatMap(({ type, seq, data }) =>
          type === "message.created" && contents.includes(String(data?.content)) ? [Number(seq)] : [],
        );
      await waitUntil(() => watchers.every((socket) => listSeqs(socket).length === contents.length));
      for (const socket of watchers) expect(listSeqs(socket)).toEqual(listSeqs(socket).toSorted((a, b) => a - b));
      const [first, second, third] = watchers.map((socket) => socket.list("message.created").map(({ data }) => data));
      expect(second).toEqual(first as never);
      expect(third).toEqual(first as never);
      await Promise.all(watchers.map((socket) => socket.close()));
    });

    test("typing indicators and read positions are pushed, and a removed member receives nothing more", async () => {
      const [annaSocket, benSocket] = await Promise.all([subscribe(0, anna), subscribe(1, ben)]).then((all) =>
        all.map(({ socket }) => socket),
      );
      if (!annaSocket || !benSocket) throw new Error("Two sockets are needed.");
      annaSocket.send({ type: "typing.start", conversation_id });
      expect(await benSocket.waitFor(({ type }) => type === "typing")).toMatchObject({
        user_id: anna.user.id,
        active: true,
      });
      const { message } = (await sendMessage(annaSocket, "read this")) as unknown as { message: { seq: number } };
      await benSocket.waitFor(({ type, active }) => type === "typing" && active === false);
      await benSocket.request({ type: "read", conversation_id, seq: message.seq });
      await annaSocket.waitFor(({ type, seq }) => type === "read" && seq === message.seq);

      const path = `/api/v1/conversations/${conversation_id}/members`;
      await getApp(2).fetch(`${path}/${ben.user.id}`, { token: anna.access_token, method: "DELETE" });
      await benSocket.waitFor(({ type }) => type === "member.removed");
      const frameCountBefore = benSocket.frames.length;
      await sendMessage(annaSocket, "not for Ben");
      await getApp(2).fetch(path, { token: anna.access_token, json: { user_id: ben.user.id } });
      await benSocket.request({ type: "subscribe", conversation_id });
      expect(benSocket.frames.slice(frameCountBefore).filter(({ type }) => type === "message.created")).toEqual([]);
      await Promise.all([annaSocket.close(), benSocket.close()]);
    });

    test("a client that subscribes on another instance during an answer receives the text so far, then each delta once", async () => {
      const pieces = Array.from({ length: 250 }, (_, n) => `${n}é😀 `);
      provider.script("one", { pieces, pieceDelayMs: 8 });
      const { socket: sender } = await subscribe(0, anna);
      await sendMessage(sender, "Count.", { reply: true });
      const { message_id } = await sender.waitFor(({ type }) => type === "message.delta");
      const id = String(message_id);
      await waitUntil(() => assembleText(sender.frames, id).length > 200);
      const { socket: secondSocket } = await subscribe(1, ben);
      await waitUntil(() => assembleText(sender.frames, id).length > 500);
      const { socket: thirdSocket } = await subscribe(2, anna);
      // Most of the answer is still missing, so deltas follow the text so far.
      await waitUntil(
        () => thirdSocket.list("message.delta").length > 0 && secondSocket.list("message.delta").length > 0,
      );
      const feed = await openStream(getApp(2), `/conversations/${conversation_id}/events`, { token: ben.access_token });
      await waitUntil(() =>
        [sender, secondSocket, thirdSocket].every(({ frames }) => findCompletedMessage(frames, id)),
      );
      await feed.waitFor(({ type }) => type === "message.completed", 20_000);
      for (const frames of [sender.frames, secondSocket.frames, thirdSocket.frames, feed.listFrames()])
        expect(assembleText(frames, id)).toBe(pieces.join(""));
      expect(findCompletedMessage(thirdSocket.frames, id)).toEqual(findCompletedMessage(sender.frames, id) as never);
      await feed.close();
      await Promise.all([sender, secondSocket, thirdSocket].map((socket) => socket.close()));
    });

    test("resending a message over REST streams its answer from another instance, and a third instance can stop the answer", async () => {
      provider.script("one", { pieces: Array.from({ length: 4_000 }, (_, n) => `${n} `), pieceDelayMs: 10 });
      const json = { content: "Count on.", reply: true, client_message_id: crypto.randomUUID() };
      const path = `/conversations/${conversation_id}/messages`;
      const firstStream = await openStream(getApp(0), path, { token: anna.access_token, json });
      const { frame } = await firstStream.waitFor(({ type }) => type === "message.delta", 20_000);
      const id = String(frame.message_id);
      const secondStream = await openStream(getApp(1), path, { token: anna.access_token, json });
      await secondStream.waitFor(({ type }) => type === "message.delta", 20_000);
      const cancelResponse = await getApp(2).fetch(`/api/v1${path}/${id}/cancel`, {
        token: ben.access_token,
        method: "POST",
      });
      expect(cancelResponse.status).toBe(200);
      await Promise.all([firstStream.closed, secondStream.closed]);
      const [firstEnd, secondEnd] = [firstStream, secondStream].map((stream) =>
        findCompletedMessage(stream.listFrames(), id),
      );
      expect(firstEnd).toMatchObject({ status: "cancelled" });
      expect(secondEnd).toEqual(firstEnd as never);
      expect(assembleText(secondStream.listFrames(), id)).toBe(assembleText(firstStream.listFrames(), id));
    });

    test("revoking a session on one instance closes its sockets and feeds on the others", async () => {
      const account = await getApp(0).register();
      const conversation = await createConversation(getApp(0), account);
      const socket = await openSocket(getApp(1).url, { token: account.access_token });
      const feed = await openStream(getApp(2), `/conversations/${conversation.id}/events`, {
        token: account.access_token,
      });
      const { refresh_token } = account;
      await getApp(0).fetch("/api/v1/auth/logout", { token: account.access_token, json: { refresh_token } });
      expect((await socket.closed).code).toBe(4506);
      await feed.closed;
    });

    test("deleting a conversation ends its feeds on every instance", async () => {
      const conversation = await createConversation(getApp(0), anna, [ben]);
      const feed = await openStream(getApp(2), `/conversations/${conversation.id}/events`, { token: ben.access_token });
      await getApp(1).fetch(`/api/v1/conversations/${conversation.id}`, { token: anna.access_token, method: "DELETE" });
      await feed.waitFor(({ type }) => type === "conversation.deleted", 20_000);
      await feed.closed;
    });

    test("stored events arrive even while the bus is unavailable, and afterwards all events arrive on the same sockets", async () => {
      const { socket: annaSocket } = await subscribe(0, anna);
      const { socket: benSocket } = await subscribe(1, ben);
      if (redis) await redis.kill();
      else
        await database.database`
          select pg_terminate_backend(pid) from pg_stat_activity
          where datname = current_database() and (query ilike 'listen%' or query ilike '%pg_notify%') and pid <> pg_backend_pid()`;
      await sendMessage(annaSocket, "during the outage");
      await benSocket.waitFor(({ data }) => data?.content === "during the outage", 20_000);
      await sendMessage(benSocket, "received");
      await annaSocket.waitFor(({ data }) => data?.content === "received", 20_000);
      if (redis) {
        const verbose = await (await fetch(`${getApp(0).url}/readyz?verbose`)).text();
        expect(verbose).toContain("[-]bus failed");
        expect(verbose).toEndWith("\nready\n");
        await redis.start();
      }
      await waitUntil(async () => (await Promise.all(apps.map(isBusHealthy))).every(Boolean));
      annaSocket.send({ type: "typing.start", conversation_id });
      await benSocket.waitFor(({ type, active }) => type === "typing" && active === true, 20_000);
      const { ack } = await subscribe(2, anna);
      expect((ack.members_online as string[]).sort()).toEqual([anna.user.id, ben.user.id].sort());
      const metrics = await (await fetch(`${getApp(0).url}/metrics`)).text();
      expect(metrics).toMatch(/parley_bus_messages_total\{direction="out"\} [1-9]/);
      expect(metrics).toContain("parley_bus_healthy 1");
    });
  });
