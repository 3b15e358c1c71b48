import { expect, test } from "bun:test";
import type { AttemptResult } from "../../src/modules/webhooks/delivery/attempt.ts";
import type { DueDelivery } from "../../src/modules/webhooks/delivery/due.ts";
import { createEndpointWorker } from "../../src/modules/webhooks/delivery/endpoint-worker.ts";

const DELIVERY_COUNT = 500;
const HANG_MS = 2_500;

/** Creates deliveries in order, alternating between conversations. */
const createBacklog = (conversationCount: number): DueDelivery[] =>
  Array.from({ length: DELIVERY_COUNT }, (_, n) => ({
    id: `d${n}`,
    type: "message.created",
    conversationId: `c${n % conversationCount}`,
    seq: n,
    occurredAt: new Date(),
    attempts: 0,
    data: {},
    isAllowed: true,
    url: "https://receiver.invalid/",
    secrets: [],
  }));

test.each([1, DELIVERY_COUNT])(
  "a backlog from %d conversations is loaded once while a receiver hangs, and sent in order afterwards",
  async (conversationCount) => {
    const backlog = createBacklog(conversationCount);
    let loadCount = 0;
    const receiverResponse = Promise.withResolvers<void>();
    const attemptedDeliveries: DueDelivery[] = [];
    const worker = createEndpointWorker(
      { id: "w", fence: 1 },
      {
        async load(_endpoint, loadedIds, rows) {
          loadCount += 1;
          return backlog.filter(({ id }) => !loadedIds.includes(id)).slice(0, rows);
        },
        async attempt(_webhookId, due) {
          attemptedDeliveries.push(due);
          await receiverResponse.promise;
          backlog.splice(backlog.indexOf(due), 1);
          return { deliveryId: due.id, disableReason: null, pauseMs: null } as AttemptResult;
        },
        results: { add: (_result, done) => setTimeout(done, 1), stop: async () => {} },
        throttle: { tryStart: () => true, recordLag: () => {} },
        onError: (error) => expect(error).toBeUndefined(),
        onEnd: () => {},
      },
    );
    for (const untilMs = performance.now() + HANG_MS; performance.now() < untilMs; await Bun.sleep(50)) worker.nudge();
    expect(loadCount).toBe(1);
    receiverResponse.resolve();
    while (attemptedDeliveries.length < DELIVERY_COUNT) await Bun.sleep(5);
    for (let n = 0; n < conversationCount; n += 1) {
      const seqs = attemptedDeliveries
        .filter(({ conversationId }) => conversationId === `c${n}`)
        .map(({ seq }) => seq ?? 0);
      expect(seqs).toEqual(seqs.toSorted((first, second) => first - second));
    }
    await worker.stop(Date.now() + 1_000);
  },
);
