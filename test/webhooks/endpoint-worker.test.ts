import { expect, test } from "bun:test";
import type { AttemptResult } from "../../src/modules/webhooks/delivery/attempt.ts";
import type { DueDelivery } from "../../src/modules/webhooks/delivery/due.ts";
import { createEndpointWorker } from "../../src/modules/webhooks/delivery/endpoint-worker.ts";

const DELIVERIES = 500;
const HANGS_MS = 2_500;

/** Deliveries in order, alternating between `conversations`. */
const createBacklog = (conversations: number): DueDelivery[] =>
  Array.from({ length: DELIVERIES }, (_, n) => ({
    id: `d${n}`,
    type: "message.created",
    conversationId: `c${n % conversations}`,
    seq: n,
    occurredAt: new Date(),
    attempts: 0,
    data: {},
    isAllowed: true,
    url: "https://receiver.invalid/",
    secrets: [],
  }));

test.each([1, DELIVERIES])(
  "while a receiver hangs, the backlog of %d conversations is not read repeatedly; then it is sent in order",
  async (conversations) => {
    const backlog = createBacklog(conversations);
    let loads = 0;
    const hangs = Promise.withResolvers<void>();
    const begun: DueDelivery[] = [];
    const worker = createEndpointWorker(
      { id: "w", fence: 1 },
      {
        async load(_endpoint, loadedIds, rows) {
          loads += 1;
          return backlog.filter(({ id }) => !loadedIds.includes(id)).slice(0, rows);
        },
        async attempt(_webhookId, due) {
          begun.push(due);
          await hangs.promise;
          backlog.splice(backlog.indexOf(due), 1);
          return { deliveryId: due.id, disables: null, pauseMs: null } as AttemptResult;
        },
        results: { add: (_result, done) => setTimeout(done, 1), stop: async () => {} },
        throttle: { take: () => true, recordLag: () => {} },
        onError: (error) => expect(error).toBeUndefined(),
        onEnd: () => {},
      },
    );
    for (const untilMs = performance.now() + HANGS_MS; performance.now() < untilMs; await Bun.sleep(50)) worker.nudge();
    expect(loads).toBe(1);
    hangs.resolve();
    while (begun.length < DELIVERIES) await Bun.sleep(5);
    for (let of = 0; of < conversations; of += 1) {
      const seqs = begun.filter(({ conversationId }) => conversationId === `c${of}`).map(({ seq }) => seq ?? 0);
      expect(seqs).toEqual(seqs.toSorted((one, other) => one - other));
    }
    await worker.stop(Date.now() + 1_000);
  },
);
