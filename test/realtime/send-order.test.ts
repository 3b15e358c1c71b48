import { expect, test } from "bun:test";
import fc from "fast-check";
import type { SendSlot } from "../../src/modules/messages/service.ts";
import { SendOrder } from "../../src/modules/socket/send-order.ts";
import { scaleRuns } from "../support/property-tests.ts";

/** Creates a fake `send` that checks each message asynchronously, then submits or rejects it, as the real `send` does. */
function createFakeSender() {
  const sendOrder = new SendOrder();
  const submitted: string[] = [];
  const { promise: committed, resolve: commit } = Promise.withResolvers<void>();
  return {
    submitted,
    commit,
    send: (conversation: string, name: string, { checkMs = 0, isRejected = false } = {}) =>
      sendOrder.run(conversation, async ({ previousSubmitted, onSubmit }: SendSlot) => {
        if (checkMs > 0) await Bun.sleep(checkMs);
        if (isRejected) throw new Error(`${name} is rejected`);
        const submit = () => {
          submitted.push(name);
          onSubmit();
          return committed;
        };
        return previousSubmitted ? previousSubmitted.then(submit) : submit();
      }),
  };
}

test("a message without a check does not overtake a message with a check, and does not wait for commits", async () => {
  const { send, submitted, commit } = createFakeSender();
  const pendingSends = [
    send("a", "a1", { checkMs: 20 }),
    send("a", "a2"),
    send("b", "b1"),
    send("a", "a3", { checkMs: 5, isRejected: true }).catch(() => {}),
    send("a", "a4"),
  ];
  expect(submitted).toEqual(["b1"]);
  await Bun.sleep(40);
  expect(submitted).toEqual(["b1", "a1", "a2", "a4"]);
  await send("a", "a5", { isRejected: true }).catch(() => {});
  const lastSend = send("a", "a6");
  expect(submitted.at(-1)).toBe("a6");
  commit();
  await Promise.all([...pendingSends, lastSend]);
});

test("each conversation receives its messages in frame order, however long checks take and whichever messages are rejected", async () => {
  const arbitraryFrame = fc.record({
    conversation: fc.constantFrom("a", "b"),
    checkMs: fc.nat(4),
    isRejected: fc.boolean(),
    hasPause: fc.boolean(),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(arbitraryFrame, { maxLength: 15 }), async (frames) => {
      const { send, submitted, commit } = createFakeSender();
      commit();
      const pendingSends: Promise<void>[] = [];
      for (const [n, { conversation, hasPause, ...options }] of frames.entries()) {
        if (hasPause) await Bun.sleep(1);
        pendingSends.push(send(conversation, `${conversation}${n}`, options).catch(() => {}));
      }
      await Promise.all(pendingSends);
      for (const name of ["a", "b"]) {
        const expected = frames.flatMap(({ conversation, isRejected }, n) =>
          conversation === name && !isRejected ? [`${name}${n}`] : [],
        );
        expect(submitted.filter((message) => message.startsWith(name))).toEqual(expected);
      }
    }),
    { numRuns: scaleRuns(40) },
  );
});
