import { expect, test } from "bun:test";
import type { AttemptResult } from "../../src/modules/webhooks/delivery/attempt.ts";
import type { DueDelivery } from "../../src/modules/webhooks/delivery/due.ts";
import { createEndpointWorker } from "../../src/modules/webhooks/delivery/endpoint-worker.ts";

const DELIVERIES = 500;
const HANG_MS = 2_500;

/** Creates deliveries in order, alternating between conversations. */
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
  "a backlog from %d conversations is loaded once while a receiver hangs, and sent in order afterwards",
  async (conversations) => {
    const backlog = createBacklog(conversations);
    let loads = 0;
    const hang = Promise.withResolvers<void>();
    const attempted: DueDelivery[] = [];
    const worker = createEndpointWorker(
      { id: "w", fence: 1 },
      {
        async load(_endpoint, loadedIds, rows) {
          loads += 1;
          return backlog.filter(({ id }) => !loadedIds.includes(id)).slice(0, rows);
        },
        async attempt(_webhookId, due) {
          attempted.push(due);
          await hang.promise;
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
    expect(loads).toBe(1);
    hang.resolve();
    while (attempted.length < DELIVERIES) await Bun.sleep(5);
    for (let n = 0; n < conversations; n += 1) {
      const seqs = attempted.filter(({ conversationId }) => conversationId === `c${n}`).map(({ seq }) => seq ?? 0);
      expect(seqs).toEqual(seqs.toSorted((first, second) => first - second));
    }
    await worker.stop(Date.now() + 1_000);
  },
);
