import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { READS_WAITING_MAX, ReadQueue } from "../../src/limits/read-queue.ts";
import { startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { createRest, type Rest } from "../support/rest.ts";
import { openSocket } from "../support/socket.ts";

describe("read slots", () => {
  const createWork = () => {
    const begun: number[] = [];
    const ends: (() => void)[] = [];
    const work = (n: number) => () => {
      begun.push(n);
      const { promise, resolve } = Promise.withResolvers<void>();
      ends[n] = resolve;
      return promise;
    };
    return { begun, ends, work };
  };

  test("allow some at once, queue the others in order, and do not block other users", async () => {
    const slots = new ReadQueue({ atOnce: 2, onRefused: () => {} });
    const { begun, ends, work } = createWork();
    const all = [0, 1, 2, 3].map((n) => slots.run("anna", work(n)));
    const other = slots.run("ben", work(4));
    await Bun.sleep(1);
    expect(begun).toEqual([0, 1, 4]);
    ends[1]?.();
    await all[1];
    await Bun.sleep(1);
    expect(begun).toEqual([0, 1, 4, 2]);
    for (const n of [0, 2, 4]) ends[n]?.();
    await Promise.all([all[0], all[2], other]);
    ends[3]?.();
    await all[3];
    expect(begun).toEqual([0, 1, 4, 2, 3]);
  });

  test("are released after a failure too, and refused where too many wait", async () => {
    let refused = 0;
    const slots = new ReadQueue({
      atOnce: 1,
      onRefused: () => {
        refused += 1;
      },
    });
    const fails = () => slots.run("anna", () => Promise.reject(new Error("no")));
    for (let n = 0; n < 5; n += 1) await expect(fails()).rejects.toThrow("no");
    const { ends, work } = createWork();
    const all = Array.from({ length: READS_WAITING_MAX + 1 }, (_, n) => slots.run("anna", work(n)));
    expect(() => slots.begin("anna")).toThrow(expect.objectContaining({ code: "rate_limited" }));
    expect(refused).toBe(1);
    for (const [n, one] of all.entries()) {
      await Bun.sleep(0);
      ends[n]?.();
      await one;
    }
    await slots.run("anna", async () => {});
  });
});

describe("requests", () => {
  let parley: TestApp;
  let anna: Rest;
  beforeAll(async () => {
    parley = await startApp({ config: { RATE_LIMIT_ENABLED: "true", RATE_LIMIT_READS_AT_ONCE_PER_USER: "2" } });
    anna = createRest(parley, await parley.register());
  });
  afterAll(() => parley.stop());

  test("release their slot, whatever their response", async () => {
    const { id } = await createConversation(parley, anna.account);
    const paths = [
      "/me",
      "/conversations/x",
      `/conversations/${id}`,
      "/users",
      "/conversations?limit=0",
      "/documents/none",
    ];
    for (let n = 0; n < 6; n += 1) {
      const statuses = await Promise.all(paths.map(async (path) => (await anna.get(path)).status));
      expect(statuses).toEqual([200, 422, 200, 403, 422, 404]);
    }
    const feed = await parley.fetch(`/api/v1/conversations/${id}/events`, {
      token: anna.account.access_token,
      headers: { accept: "text/event-stream" },
    });
    expect((await anna.get("/me")).status).toBe(200);
    await feed.body?.cancel();
  });

  test("for feeds that have missed events do not wait for each other", async () => {
    const groups = await Promise.all(Array.from({ length: 6 }, () => createConversation(parley, anna.account)));
    for (const { id } of groups)
      await anna.request("POST", `/conversations/${id}/messages`, { content: "x", reply: false });
    const feeds = await Promise.all(
      groups.map(({ id }) =>
        parley.fetch(`/api/v1/conversations/${id}/events`, {
          token: anna.account.access_token,
          headers: { accept: "text/event-stream", "last-event-id": "0" },
        }),
      ),
    );
    expect(feeds.map(({ status }) => status)).toEqual(groups.map(() => 200));
    const sockets = await Promise.all(
      Array.from({ length: 6 }, () => openSocket(parley.url, { token: anna.account.access_token })),
    );
    const acks = await Promise.all(
      sockets.map((socket, n) =>
        socket.request({ type: "subscribe", id: "s", conversation_id: groups[n]?.id ?? "", after_seq: 0 }),
      ),
    );
    expect(acks.map(({ type }) => type)).toEqual(groups.map(() => "ack"));
    expect((await anna.get("/me")).status).toBe(200);
    for (const feed of feeds) await feed.body?.cancel();
  });

  test("that list without a search take slots as well, where a search uses one", async () => {
    let answered = 0;
    await parley.database
      .begin(async (sql) => {
        await sql`lock table documents in access exclusive mode`;
        // Identical requests would share a query.
        const lists = [198, 199, 200].map((limit) =>
          anna.get(`/documents?limit=${limit}`).finally(() => (answered += 1)),
        );
        await Bun.sleep(150);
        const { length } = await sql`
          select 1 from pg_locks where relation = 'documents'::regclass and not granted`;
        expect({ waiting: length, answered }).toEqual({ waiting: 2, answered: 0 });
        return lists;
      })
      .then((lists) => Promise.all(lists));
  });

  test("that are stuck delay the user's other ones, and no one else's", async () => {
    const ben = createRest(parley, await parley.register());
    const { id } = await createConversation(parley, anna.account);
    let isAnswered = false;
    await parley.database
      .begin(async (sql) => {
        await sql`lock table member_activity in access exclusive mode`;
        const stuck = [1, 2].map(() => anna.get("/conversations"));
        await Bun.sleep(100);
        const waiting = anna.get(`/conversations/${id}`).then((answer) => {
          isAnswered = true;
          return answer;
        });
        expect((await ben.get("/me")).status).toBe(200);
        await Bun.sleep(100);
        expect(isAnswered).toBe(false);
        return { stuck, waiting };
      })
      .then(({ stuck, waiting }) => Promise.all([...stuck, waiting]))
      .then((answers) => expect(answers.map(({ status }) => status)).toEqual([200, 200, 200]));
  });
});
