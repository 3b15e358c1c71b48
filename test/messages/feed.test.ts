import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { createHmac } from "node:crypto";
import type { ProblemBody } from "../../src/http/problem-response.ts";
import type { SentMessage } from "../../src/modules/messages/model.ts";
import { RECOVERY_EVENTS_MAX } from "../../src/protocol/limits.ts";
import { assembleAnswer } from "../acceptance/assemble-answer.ts";
import { startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { openStream } from "../support/event-stream.ts";
import { createRestClient, type RestClient } from "../support/rest.ts";
import { openSocket } from "../support/socket.ts";

const JWT_SECRET = "known only to this test: 0123456789";
let parley: TestApp;
let anna: RestClient;
let ben: RestClient;
let id: string;
let path: string;

beforeAll(async () => {
  parley = await startApp({ config: { JWT_SECRET } });
  const accounts = await Promise.all(["Anna", "Ben"].map((name) => parley.register(undefined, name)));
  [anna, ben] = accounts.map((account) => createRestClient(parley, account)) as [RestClient, RestClient];
});
beforeEach(async () => {
  id = (await createConversation(parley, anna.account, [ben.account])).id;
  path = `/conversations/${id}`;
});
afterAll(() => parley.stop());

const sendMessage = (content: string, fields: object = {}) =>
  anna.request<SentMessage>("POST", `${path}/messages`, { content, reply: false, ...fields });
const openFeed = (headers: Record<string, string> = {}, query = "", reader: RestClient = ben) =>
  openStream(parley, `${path}/events${query}`, { token: reader.account.access_token, headers });
const listOnline = async (): Promise<string[]> => {
  const socket = await openSocket(parley.url, { token: anna.account.access_token });
  const ack = await socket.request({ type: "subscribe", conversation_id: id });
  await socket.close();
  return (ack.members_online as string[]).filter((userId) => userId !== anna.id);
};

describe("the live feed", () => {
  test("starts at the current seq, and sends the same events as a socket", async () => {
    await sendMessage("before");
    const feed = await openFeed();
    const socket = await openSocket(parley.url, { token: ben.account.access_token });
    await socket.request({ type: "subscribe", conversation_id: id });
    const { body } = await sendMessage("now");
    await anna.request("PATCH", `${path}/messages/${body.message.id}`, { content: "NOW" });
    await anna.request("PATCH", path, { title: "Title" });
    await anna.request("DELETE", `${path}/messages/${body.message.id}`);
    await feed.waitFor((frame) => frame.type === "message.deleted");
    await socket.waitFor((frame) => frame.type === "message.deleted");
    const isDurable = ({ seq }: { seq?: number }) => seq !== undefined;
    expect(feed.listFrames().filter(isDurable)).toEqual(socket.frames.filter(isDurable));
    expect(feed.listSeqs()).toEqual([3, 4, 5, 6]);
    await Promise.all([feed.close(), socket.close()]);
  });

  test("streams an answer until it is completed", async () => {
    const feed = await openFeed();
    await sendMessage("How do I send a message?", { reply: true });
    const end = await feed.waitFor((frame) => frame.type === "message.completed");
    expect(assembleAnswer(feed.listFrames(), end.frame.data?.id ?? "").finalMessage).toEqual(end.frame.data as never);
    await feed.close();
  });

  test("sends the events missed since Last-Event-ID, then new ones", async () => {
    const firstFeed = await openFeed();
    await sendMessage("2");
    await sendMessage("3");
    await firstFeed.waitFor((frame) => frame.seq === 3);
    await firstFeed.close();
    await sendMessage("4");
    await anna.request("PATCH", path, { title: "5" });
    const secondFeed = await openFeed({ "last-event-id": firstFeed.events.at(-1)?.id ?? "" });
    await sendMessage("6");
    await secondFeed.waitFor((frame) => frame.seq === 6);
    expect(secondFeed.listSeqs()).toEqual([4, 5, 6]);
    expect(secondFeed.listFrames().map(({ data }) => data?.content ?? data?.title)).toEqual(["4", "5", "6"]);
    await secondFeed.close();
  });

  test("starts after after_seq, unless a reconnecting browser sends Last-Event-ID", async () => {
    for (let seq = 2; seq <= 5; seq += 1) await sendMessage(`${seq}`);
    const feed = await openFeed({}, "?after_seq=0");
    await feed.waitFor((frame) => frame.seq === 5);
    expect(feed.listSeqs()).toEqual([1, 2, 3, 4, 5]);
    const reopenedFeed = await openFeed({ "last-event-id": "3" }, "?after_seq=0");
    await reopenedFeed.waitFor((frame) => frame.seq === 5);
    expect(reopenedFeed.listSeqs()).toEqual([4, 5]);
    await Promise.all([feed.close(), reopenedFeed.close()]);
  });

  test("neither loses nor repeats events if it is reopened many times during concurrent writes", async () => {
    const messageCount = 300;
    const writes = (async () => {
      for (let n = 0; n < messageCount; n += 10)
        await Promise.all(Array.from({ length: 10 }, (_, i) => sendMessage(`${n + i}`)));
    })();
    const receivedSeqs: number[] = [];
    while ((receivedSeqs.at(-1) ?? 0) < messageCount + 1) {
      const lastSeq = receivedSeqs.at(-1) ?? 0;
      const feed = await openFeed({ "last-event-id": String(lastSeq) });
      await feed.waitFor((frame) => (frame.seq ?? 0) > Math.min(lastSeq + 20, messageCount));
      await feed.close();
      receivedSeqs.push(...feed.listSeqs());
    }
    await writes;
    expect(receivedSeqs).toEqual(Array.from({ length: messageCount + 1 }, (_, index) => index + 1));
  });

  test("replays nothing if too many events were missed or Last-Event-ID is in the future", async () => {
    await parley.database`
      insert into messages (id, conversation_id, seq, role, author_id, content)
      select gen_random_uuid(), ${id}, n, 'user', ${anna.id}, 'x' from generate_series(2, ${RECOVERY_EVENTS_MAX + 2}) n`;
    await parley.database`update conversations set last_seq = ${RECOVERY_EVENTS_MAX + 2} where id = ${id}`;
    const nextSeq = RECOVERY_EVENTS_MAX + 3;
    const feeds = await Promise.all(
      ["1", "2", String(nextSeq + 100)].map((lastEventId) => openFeed({ "last-event-id": lastEventId })),
    );
    await sendMessage("live");
    for (const feed of feeds) await feed.waitFor((frame) => frame.seq === nextSeq);
    const replayed = Array.from({ length: RECOVERY_EVENTS_MAX }, (_, index) => index + 3);
    expect(feeds.map((feed) => feed.listSeqs())).toEqual([[nextSeq], [...replayed, nextSeq], [nextSeq]]);
    for (const feed of feeds) await feed.close();
  });

  test("replays nothing if the missed text is too large, but the paged events include it", async () => {
    const content = "€".repeat(200_000);
    for (let n = 0; n < 5; n += 1) await sendMessage(content);
    const socket = await openSocket(parley.url, { token: ben.account.access_token });
    expect(await socket.request({ type: "subscribe", conversation_id: id, after_seq: 0 })).toMatchObject({
      recovered: false,
      events: [],
      last_seq: 6,
    });
    expect(await socket.request({ type: "subscribe", conversation_id: id, after_seq: 3 })).toMatchObject({
      recovered: true,
      last_seq: 6,
    });
    const { rows, pages } = await ben.listAll<{ seq: number }>(`${path}/events`, 200);
    expect(rows.map(({ seq }) => seq)).toEqual([1, 2, 3, 4, 5, 6]);
    expect(pages).toEqual([5, 1]);
    await socket.close();
  });

  test.each(["x", "-1", "1.5", "99999999999999999"])("returns 400 for a Last-Event-ID of %p", async (lastEventId) => {
    const { status, body } = await ben.get<ProblemBody>(`${path}/events`, {
      accept: "text/event-stream",
      "last-event-id": lastEventId,
    });
    expect({ status, code: body.code }).toEqual({ status: 400, code: "malformed" });
  });

  test("shows its reader as online while it is open", async () => {
    const feed = await openFeed();
    expect(await listOnline()).toEqual([ben.id]);
    await feed.close();
    while ((await listOnline()).length > 0) await Bun.sleep(5);
  });
});

describe("the live feed ends", () => {
  test("when its reader is removed, with the removal as its last event", async () => {
    const [bensFeed, annasFeed] = [await openFeed(), await openFeed({}, "", anna)];
    await anna.request("DELETE", `${path}/members/${ben.id}`);
    await bensFeed.closed;
    await sendMessage("not for Ben");
    await annasFeed.waitFor((frame) => frame.type === "message.created");
    expect(bensFeed.events.map(({ event }) => event).at(-1)).toBe("member.removed");
    expect(bensFeed.listSeqs()).toEqual([2]);
    expect(annasFeed.listSeqs()).toEqual([2, 3]);
    await annasFeed.close();
  });

  test("when the conversation is deleted", async () => {
    const feeds = [await openFeed(), await openFeed({}, "", anna)];
    await anna.request("DELETE", path);
    for (const feed of feeds) {
      await feed.closed;
      expect(feed.events.at(-1)).toMatchObject({ event: "conversation.deleted", id: "2" });
    }
  });

  /** Regression: an open feed continued after its session or access token was no longer valid. */
  test("when the session is revoked on this or another instance, or the access token expires", async () => {
    const logIn = async () =>
      (await (
        await parley.fetch("/api/v1/auth/login", {
          json: { email: ben.account.user.email, password: "correct horse battery" },
        })
      ).json()) as typeof ben.account;
    const localSession = createRestClient(parley, await logIn());
    const remoteSession = createRestClient(parley, await logIn());
    const otherSessionFeed = await openFeed();
    const [localFeed, remoteFeed] = [await openFeed({}, "", localSession), await openFeed({}, "", remoteSession)];
    await parley.fetch("/api/v1/auth/logout", { json: { refresh_token: localSession.account.refresh_token } });
    await localFeed.closed;
    const claims = JSON.parse(
      Buffer.from(remoteSession.account.access_token.split(".")[1] ?? "", "base64url").toString(),
    );
    await parley.database`update sessions set revoked_at = now(), revoked_reason = 'ended' where id = ${claims.sid}`;
    const startedAtMs = performance.now();
    await remoteFeed.closed;
    expect(performance.now() - startedAtMs).toBeLessThan(2_500);

    const expiringFeed = await openStream(parley, `${path}/events`, { token: setExpiry(ben.account.access_token, 1) });
    await expiringFeed.closed;
    await sendMessage("still live");
    await otherSessionFeed.waitFor((frame) => frame.data?.content === "still live");
    expect([localFeed, remoteFeed, expiringFeed].flatMap((feed) => feed.listSeqs())).toEqual([]);
    await otherSessionFeed.close();
  });

  /** Regression: a listener was never removed if its reader disconnected while the start of the feed was loaded. */
  test("when its reader disconnects before the feed has started", async () => {
    await parley.database.begin(async (sql) => {
      await sql`lock table members in access exclusive mode`;
      const aborter = new AbortController();
      const headers = { authorization: `Bearer ${ben.account.access_token}`, accept: "text/event-stream" };
      const pendingFeed = fetch(`${parley.url}/api/v1${path}/events`, { headers, signal: aborter.signal }).catch(
        () => null,
      );
      await Bun.sleep(50);
      aborter.abort();
      expect(await pendingFeed).toBeNull();
      await Bun.sleep(50);
    });
    await Bun.sleep(20);
    expect(await listOnline()).toEqual([]);
  });

  test("immediately for a HEAD request", async () => {
    const headers = { authorization: `Bearer ${ben.account.access_token}`, accept: "text/event-stream" };
    const response = await fetch(`${parley.url}/api/v1${path}/events`, { method: "HEAD", headers });
    expect(response.status).toBe(200);
    expect(await listOnline()).toEqual([]);
  });

  test("when the server stops", async () => {
    const stoppingApp = await startApp();
    const rest = createRestClient(stoppingApp, await stoppingApp.register());
    const conversation = await createConversation(stoppingApp, rest.account);
    const feed = await openStream(stoppingApp, `/conversations/${conversation.id}/events`, {
      token: rest.account.access_token,
    });
    await stoppingApp.stop();
    await feed.closed;
    expect(feed.listSeqs()).toEqual([]);
  });
});

/** Returns the token with a different expiry, signed as the server does. */
function setExpiry(token: string, seconds: number): string {
  const [header = "", payload = ""] = token.split(".");
  const claims = JSON.parse(Buffer.from(payload, "base64url").toString());
  const exp = Math.floor(Date.now() / 1000) + seconds;
  const signedPart = `${header}.${Buffer.from(JSON.stringify({ ...claims, exp })).toString("base64url")}`;
  return `${signedPart}.${createHmac("sha256", JWT_SECRET).update(signedPart).digest("base64url")}`;
}
