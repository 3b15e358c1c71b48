import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { createHmac } from "node:crypto";
import type { ProblemBody } from "../../src/http/problem-response.ts";
import type { SentMessage } from "../../src/modules/messages/model.ts";
import { RECOVERY_EVENTS_MAX } from "../../src/protocol/limits.ts";
import { readAnswer } from "../acceptance/reader.ts";
import { startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { openStream } from "../support/event-stream.ts";
import { createRest, type Rest } from "../support/rest.ts";
import { openSocket } from "../support/socket.ts";

const JWT_SECRET = "known to this test alone: 0123456789";
let parley: TestApp;
let anna: Rest;
let ben: Rest;
let id: string;
let path: string;

beforeAll(async () => {
  parley = await startApp({ config: { JWT_SECRET } });
  const accounts = await Promise.all(["Anna", "Ben"].map((name) => parley.register(undefined, name)));
  [anna, ben] = accounts.map((account) => createRest(parley, account)) as [Rest, Rest];
});
beforeEach(async () => {
  id = (await createConversation(parley, anna.account, [ben.account])).id;
  path = `/conversations/${id}`;
});
afterAll(() => parley.stop());

const send = (content: string, more: object = {}) =>
  anna.request<SentMessage>("POST", `${path}/messages`, { content, reply: false, ...more });
const open = (headers: Record<string, string> = {}, query = "", by: Rest = ben) =>
  openStream(parley, `${path}/events${query}`, { token: by.account.access_token, headers });
const listOnline = async (): Promise<string[]> => {
  const socket = await openSocket(parley.url, { token: anna.account.access_token });
  const ack = await socket.request({ type: "subscribe", conversation_id: id });
  await socket.close();
  return (ack.members_online as string[]).filter((userId) => userId !== anna.id);
};

describe("the live feed", () => {
  test("starts at the current position, and sends what sockets receive", async () => {
    await send("before");
    const feed = await open();
    const socket = await openSocket(parley.url, { token: ben.account.access_token });
    await socket.request({ type: "subscribe", conversation_id: id });
    const { body } = await send("now");
    await anna.request("PATCH", `${path}/messages/${body.message.id}`, { content: "NOW" });
    await anna.request("PATCH", path, { title: "Title" });
    await anna.request("DELETE", `${path}/messages/${body.message.id}`);
    await feed.waitFor((frame) => frame.type === "message.deleted");
    await socket.waitFor((frame) => frame.type === "message.deleted");
    const isDurable = ({ seq }: { seq?: number }) => seq !== undefined;
    expect(feed.frames().filter(isDurable)).toEqual(socket.frames.filter(isDurable));
    expect(feed.seqs()).toEqual([3, 4, 5, 6]);
    await Promise.all([feed.close(), socket.close()]);
  });

  test("streams answers, and sends the text so far to late readers", async () => {
    const feed = await open();
    await send("How do I send a message?", { reply: true });
    const end = await feed.waitFor((frame) => frame.type === "message.completed");
    expect(readAnswer(feed.frames(), end.frame.data?.id ?? "").final).toEqual(end.frame.data as never);
    await feed.close();
  });

  test("resumes after Last-Event-ID: first the missed events, then new ones", async () => {
    const first = await open();
    await send("2");
    await send("3");
    await first.waitFor((frame) => frame.seq === 3);
    await first.close();
    await send("4");
    await anna.request("PATCH", path, { title: "5" });
    const second = await open({ "last-event-id": first.events.at(-1)?.id ?? "" });
    await send("6");
    await second.waitFor((frame) => frame.seq === 6);
    expect(second.seqs()).toEqual([4, 5, 6]);
    expect(second.frames().map(({ data }) => data?.content ?? data?.title)).toEqual(["4", "5", "6"]);
    await second.close();
  });

  test("uses after_seq at first; Last-Event-ID, which the browser sends on reconnecting, takes precedence", async () => {
    for (let seq = 2; seq <= 5; seq += 1) await send(`${seq}`);
    const feed = await open({}, "?after_seq=0");
    await feed.waitFor((frame) => frame.seq === 5);
    expect(feed.seqs()).toEqual([1, 2, 3, 4, 5]);
    const again = await open({ "last-event-id": "3" }, "?after_seq=0");
    await again.waitFor((frame) => frame.seq === 5);
    expect(again.seqs()).toEqual([4, 5]);
    await Promise.all([feed.close(), again.close()]);
  });

  test("loses and repeats nothing, however often it is opened during concurrent writes", async () => {
    const total = 300;
    const storm = (async () => {
      for (let n = 0; n < total; n += 10) await Promise.all(Array.from({ length: 10 }, (_, i) => send(`${n + i}`)));
    })();
    const seen: number[] = [];
    while ((seen.at(-1) ?? 0) < total + 1) {
      const last = seen.at(-1) ?? 0;
      const feed = await open({ "last-event-id": String(last) });
      await feed.waitFor((frame) => (frame.seq ?? 0) > Math.min(last + 20, total));
      await feed.close();
      seen.push(...feed.seqs());
    }
    await storm;
    expect(seen).toEqual(Array.from({ length: total + 1 }, (_, index) => index + 1));
  });

  test("replays all missed events or none: not more than the limit, and none from the future", async () => {
    await parley.database`
      insert into messages (id, conversation_id, seq, role, author_id, content)
      select gen_random_uuid(), ${id}, n, 'user', ${anna.id}, 'x' from generate_series(2, ${RECOVERY_EVENTS_MAX + 2}) n`;
    await parley.database`update conversations set last_seq = ${RECOVERY_EVENTS_MAX + 2} where id = ${id}`;
    const next = RECOVERY_EVENTS_MAX + 3;
    const feeds = await Promise.all(["1", "2", String(next + 100)].map((last) => open({ "last-event-id": last })));
    await send("live");
    for (const feed of feeds) await feed.waitFor((frame) => frame.seq === next);
    const all = Array.from({ length: RECOVERY_EVENTS_MAX }, (_, index) => index + 3);
    expect(feeds.map((feed) => feed.seqs())).toEqual([[next], [...all, next], [next]]);
    for (const feed of feeds) await feed.close();
  });

  test("replays nothing if the text exceeds what a reader can take at once; the event pages have it", async () => {
    const content = "€".repeat(200_000);
    for (let n = 0; n < 5; n += 1) await send(content);
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
    const { rows, pages } = await ben.all<{ seq: number }>(`${path}/events`, 200);
    expect(rows.map(({ seq }) => seq)).toEqual([1, 2, 3, 4, 5, 6]);
    expect(pages).toEqual([5, 1]);
    await socket.close();
  });

  test.each(["x", "-1", "1.5", "99999999999999999"])("a Last-Event-ID of %p returns 400", async (last) => {
    const { status, body } = await ben.get<ProblemBody>(`${path}/events`, {
      accept: "text/event-stream",
      "last-event-id": last,
    });
    expect({ status, code: body.code }).toEqual({ status: 400, code: "malformed" });
  });

  test("makes its reader present while it is open", async () => {
    const feed = await open();
    expect(await listOnline()).toEqual([ben.id]);
    await feed.close();
    while ((await listOnline()).length > 0) await Bun.sleep(5);
  });
});

describe("the live feed ends", () => {
  test("when its reader is removed, with that as its last event", async () => {
    const [gone, stays] = [await open(), await open({}, "", anna)];
    await anna.request("DELETE", `${path}/members/${ben.id}`);
    await gone.ended;
    await send("behind his back");
    await stays.waitFor((frame) => frame.type === "message.created");
    expect(gone.events.map(({ event }) => event).at(-1)).toBe("member.removed");
    expect(gone.seqs()).toEqual([2]);
    expect(stays.seqs()).toEqual([2, 3]);
    await stays.close();
  });

  test("when the conversation is deleted", async () => {
    const feeds = [await open(), await open({}, "", anna)];
    await anna.request("DELETE", path);
    for (const feed of feeds) {
      await feed.ended;
      expect(feed.events.at(-1)).toMatchObject({ event: "conversation.deleted", id: "2" });
    }
  });

  /** Regression: an open feed continued forever, whatever happened to its credential. */
  test("when the session ends, on this or another instance, and when the access token expires", async () => {
    const logIn = async () =>
      (await (
        await parley.fetch("/api/v1/auth/login", {
          json: { email: ben.account.user.email, password: "correct horse battery" },
        })
      ).json()) as typeof ben.account;
    const here = createRest(parley, await logIn());
    const elsewhere = createRest(parley, await logIn());
    const kept = await open();
    const [endedHere, endedElsewhere] = [await open({}, "", here), await open({}, "", elsewhere)];
    await parley.fetch("/api/v1/auth/logout", { json: { refresh_token: here.account.refresh_token } });
    await endedHere.ended;
    const claims = JSON.parse(Buffer.from(elsewhere.account.access_token.split(".")[1] ?? "", "base64url").toString());
    await parley.database`update sessions set revoked_at = now(), revoked_reason = 'ended' where id = ${claims.sid}`;
    const startedAtMs = performance.now();
    await endedElsewhere.ended;
    expect(performance.now() - startedAtMs).toBeLessThan(2_500);

    const short = await openStream(parley, `${path}/events`, { token: shorten(ben.account.access_token, 1) });
    await short.ended;
    await send("still live");
    await kept.waitFor((frame) => frame.data?.content === "still live");
    expect([endedHere, endedElsewhere, short].flatMap((feed) => feed.seqs())).toEqual([]);
    await kept.close();
  });

  /** Regression: a listener whose reader disconnected while the position was read stayed in the room forever. */
  test("when its reader disconnects before it has begun", async () => {
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
    const other = await startApp();
    const rest = createRest(other, await other.register());
    const conversation = await createConversation(other, rest.account);
    const feed = await openStream(other, `/conversations/${conversation.id}/events`, {
      token: rest.account.access_token,
    });
    await other.stop();
    await feed.ended;
    expect(feed.seqs()).toEqual([]);
  });
});

/** The same token with an earlier expiry, signed as the server would. */
function shorten(token: string, seconds: number): string {
  const [header = "", payload = ""] = token.split(".");
  const claims = JSON.parse(Buffer.from(payload, "base64url").toString());
  const exp = Math.floor(Date.now() / 1000) + seconds;
  const signed = `${header}.${Buffer.from(JSON.stringify({ ...claims, exp })).toString("base64url")}`;
  return `${signed}.${createHmac("sha256", JWT_SECRET).update(signed).digest("base64url")}`;
}
