import { expect, test } from "bun:test";
import fc from "fast-check";
import type { SendSlot } from "../../src/modules/messages/service.ts";
import { SendOrder } from "../../src/modules/socket/send-order.ts";
import { scaleRuns } from "../support/property-tests.ts";

/** Creates a fake `send` that checks each message asynchronously, then submits or refuses it, as the real `send` does. */
function createSends() {
  const order = new SendOrder();
  const submitted: string[] = [];
  const { promise: committed, resolve: commit } = Promise.withResolvers<void>();
  return {
    submitted,
    commit,
    send: (conversation: string, name: string, { checkMs = 0, isRefused = false } = {}) =>
      order.run(conversation, async ({ previous, onSubmit }: SendSlot) => {
        if (checkMs > 0) await Bun.sleep(checkMs);
        if (isRefused) throw new Error(`${name} is refused`);
        const submit = () => {
          submitted.push(name);
          onSubmit();
          return committed;
        };
        return previous ? previous.then(submit) : submit();
      }),
  };
}

test("a message without a check does not overtake a message with a check, and does not wait for commits", async () => {
  const { send, submitted, commit } = createSends();
  const all = [
    send("a", "a1", { checkMs: 20 }),
    send("a", "a2"),
    send("b", "b1"),
    send("a", "a3", { checkMs: 5, isRefused: true }).catch(() => {}),
    send("a", "a4"),
  ];
  expect(submitted).toEqual(["b1"]);
  await Bun.sleep(40);
  expect(submitted).toEqual(["b1", "a1", "a2", "a4"]);
  await send("a", "a5", { isRefused: true }).catch(() => {});
  const last = send("a", "a6");
  expect(submitted.at(-1)).toBe("a6");
  commit();
  await Promise.all([...all, last]);
});

test("each conversation gets its messages in frame order, however long checks take and whichever messages are refused", async () => {
  const frame = fc.record({
    conversation: fc.constantFrom("a", "b"),
    checkMs: fc.nat(4),
    isRefused: fc.boolean(),
    pause: fc.boolean(),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(frame, { maxLength: 15 }), async (frames) => {
      const { send, submitted, commit } = createSends();
      commit();
      const sends: Promise<void>[] = [];
      for (const [n, { conversation, pause, ...options }] of frames.entries()) {
        if (pause) await Bun.sleep(1);
        sends.push(send(conversation, `${conversation}${n}`, options).catch(() => {}));
      }
      await Promise.all(sends);
      for (const name of ["a", "b"]) {
        const expected = frames.flatMap(({ conversation, isRefused }, n) =>
          conversation === name && !isRefused ? [`${name}${n}`] : [],
        );
        expect(submitted.filter((message) => message.startsWith(name))).toEqual(expected);
      }
    }),
    { numRuns: scaleRuns(40) },
  );
});
