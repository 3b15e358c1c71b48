import { describe, expect, test } from "bun:test";
import { createLog } from "../../src/lib/log.ts";
import type { GenerationsMessage } from "../../src/realtime/bus.ts";
import { createMemoryBus } from "../../src/realtime/bus-memory.ts";

const createMessage = (message_id: string): GenerationsMessage => ({ type: "generation.cancelled", message_id });

function createTestBus() {
  const errors: unknown[] = [];
  const log = Object.assign(Object.create(createLog("silent", "json")), {
    error: (line: { err: unknown }) => errors.push(line.err),
  });
  const bus = createMemoryBus({ log });
  const listen = (received: string[], onMessage: (id: string) => void = () => {}) =>
    bus.subscribe("generations", {
      onMessage({ message_id }) {
        received.push(message_id);
        onMessage(message_id);
      },
      onGap: () => received.push("gap"),
    });
  const publish = (...ids: string[]) => bus.publish("generations", () => ids.map(createMessage));
  return { bus, errors, listen, publish };
}

describe("the memory bus", () => {
  test("delivers each message to every subscriber of its channel, in order, before `publish` returns", () => {
    const { bus, listen, publish } = createTestBus();
    const [first, second, other]: [string[], string[], string[]] = [[], [], []];
    listen(first);
    listen(second);
    bus.subscribe("credentials", { onMessage: ({ ids }) => other.push(...ids), onGap() {} });
    publish("a", "b");
    publish("c");
    expect({ first, second, other }).toEqual({ first: ["a", "b", "c"], second: ["a", "b", "c"], other: [] });
  });

  test("creates no messages if the channel has no subscribers", () => {
    const { bus, listen, publish } = createTestBus();
    const failToCreate = () => {
      throw new Error("The message was created.");
    };
    bus.publish("generations", failToCreate);
    const received: string[] = [];
    const unsubscribe = listen(received);
    publish("a");
    unsubscribe();
    unsubscribe();
    bus.publish("generations", failToCreate);
    expect(received).toEqual(["a"]);
  });

  test("isolates a failing subscriber from other subscribers and from the publisher", () => {
    const { listen, publish, errors } = createTestBus();
    const [broken, fine]: [string[], string[]] = [[], []];
    listen(broken, () => {
      throw new Error("broken");
    });
    listen(fine);
    publish("a", "b");
    expect({ broken, fine, errors: errors.length }).toEqual({ broken: ["a", "b"], fine: ["a", "b"], errors: 2 });
  });

  test("allows unsubscribing and publishing during a delivery", () => {
    const { listen, publish } = createTestBus();
    const [first, second]: [string[], string[]] = [[], []];
    const unsubscribe = listen(first, (id) => {
      if (id === "a") publish("b");
      else unsubscribe();
    });
    listen(second);
    publish("a");
    publish("c");
    expect(first).toEqual(["a", "b"]);
    expect([...second].sort()).toEqual(["a", "b", "c"]);
  });
});
