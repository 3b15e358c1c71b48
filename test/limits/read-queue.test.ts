import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { READS_WAITING_MAX, ReadQueue } from "../../src/limits/read-queue.ts";
import { startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { createRestClient, type RestClient } from "../support/rest.ts";
import { openSocket } from "../support/socket.ts";

describe("the read queue", () => {
  const createTaskTracker = () => {
    const startedNumbers: number[] = [];
    const finishers: (() => void)[] = [];
    const createTask = (n: number) => () => {
      startedNumbers.push(n);
      const { promise, resolve } = Promise.withResolvers<void>();
      finishers[n] = resolve;
      return promise;
    };
    return { startedNumbers, finishers, createTask };
  };

  test("runs some reads in parallel, queues the rest in order, and doesn't block other users", async () => {
    const queue = new ReadQueue({ concurrentMax: 2, onRejected: () => {} });
    const { startedNumbers, finishers, createTask } = createTaskTracker();
    const reads = [0, 1, 2, 3].map((n) => queue.run("anna", createTask(n)));
    const bensRead = queue.run("ben", createTask(4));
    await Bun.sleep(1);
    expect(startedNumbers).toEqual([0, 1, 4]);
    finishers[1]?.();
    await reads[1];
    await Bun.sleep(1);
    expect(startedNumbers).toEqual([0, 1, 4, 2]);
    for (const n of [0, 2, 4]) finishers[n]?.();
    await Promise.all([reads[0], reads[2], bensRead]);
    finishers[3]?.();
    await reads[3];
    expect(startedNumbers).toEqual([0, 1, 4, 2, 3]);
  });

  test("continues after a failure, and rejects a read if too many are waiting", async () => {
    let rejectedCount = 0;
    const queue = new ReadQueue({
      concurrentMax: 1,
      onRejected: () => {
        rejectedCount += 1;
      },
    });
    const runFailing = () => queue.run("anna", () => Promise.reject(new Error("no")));
    for (let n = 0; n < 5; n += 1) await expect(runFailing()).rejects.toThrow("no");
    const { finishers, createTask } = createTaskTracker();
    const reads = Array.from({ length: READS_WAITING_MAX + 1 }, (_, n) => queue.run("anna", createTask(n)));
    expect(() => queue.start("anna")).toThrow(expect.objectContaining({ code: "rate_limited" }));
    expect(rejectedCount).toBe(1);
    for (const [n, read] of reads.entries()) {
      await Bun.sleep(0);
      finishers[n]?.();
      await read;
    }
    await queue.run("anna", async () => {});
  });
});

describe("requests", () => {
  let parley: TestApp;
  let anna: RestClient;
  beforeAll(async () => {
    parley = await startApp({ config: { RATE_LIMIT_ENABLED: "true", RATE_LIMIT_READS_AT_ONCE_PER_USER: "2" } });
    anna = createRestClient(parley, await parley.register());
  });
  afterAll(() => parley.stop());

  test("release their slot, whether they succeed or fail", async () => {
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

  test("that open feeds with missed events don't wait for each other", async () => {
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

  test("that list documents without a search also take a slot", async () => {
    let responseCount = 0;
    await parley.database
      .begin(async (sql) => {
        await sql`lock table documents in access exclusive mode`;
        // Identical requests would share a query.
        const lists = [198, 199, 200].map((limit) =>
          anna.get(`/documents?limit=${limit}`).finally(() => (responseCount += 1)),
        );
        await Bun.sleep(150);
        const { length } = await sql`
          select 1 from pg_locks where relation = 'documents'::regclass and not granted`;
        expect({ waiting: length, responseCount }).toEqual({ waiting: 2, responseCount: 0 });
        return lists;
      })
      .then((lists) => Promise.all(lists));
  });

  test("that are stuck delay the user's other requests, but not other users' requests", async () => {
    const ben = createRestClient(parley, await parley.register());
    const { id } = await createConversation(parley, anna.account);
    let hasResponse = false;
    await parley.database
      .begin(async (sql) => {
        await sql`lock table member_activity in access exclusive mode`;
        const stuckRequests = [1, 2].map(() => anna.get("/conversations"));
        await Bun.sleep(100);
        const waitingRequest = anna.get(`/conversations/${id}`).then((response) => {
          hasResponse = true;
          return response;
        });
        expect((await ben.get("/me")).status).toBe(200);
        await Bun.sleep(100);
        expect(hasResponse).toBe(false);
        return [...stuckRequests, waitingRequest];
      })
      .then((requests) => Promise.all(requests))
      .then((responses) => expect(responses.map(({ status }) => status)).toEqual([200, 200, 200]));
  });
});
