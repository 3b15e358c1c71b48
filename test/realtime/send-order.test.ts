import { expect, test } from "bun:test";
import fc from "fast-check";
import type { SendSlot } from "../../src/modules/messages/service.ts";
import { SendOrder } from "../../src/modules/socket/send-order.ts";
import { countRuns } from "../support/properties.ts";

/** Sends like messages.send does: each is checked for a while, then queued or refused. */
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

test("a message without a check does not overtake one with a check, and waits for no commit", async () => {
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

test("with any checks and refusals, each conversation gets its messages in the order of their frames", async () => {
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
      const all: Promise<void>[] = [];
      for (const [n, { conversation, pause, ...how }] of frames.entries()) {
        if (pause) await Bun.sleep(1);
        all.push(send(conversation, `${conversation}${n}`, how).catch(() => {}));
      }
      await Promise.all(all);
      for (const name of ["a", "b"]) {
        const expected = frames.flatMap(({ conversation, isRefused }, n) =>
          conversation === name && !isRefused ? [`${name}${n}`] : [],
        );
        expect(submitted.filter((one) => one.startsWith(name))).toEqual(expected);
      }
    }),
    { numRuns: countRuns(40) },
  );
});
