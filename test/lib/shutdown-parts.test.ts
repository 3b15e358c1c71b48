import { expect, test } from "bun:test";
import { createShutdownComponents } from "../../src/lib/shutdown-components.ts";

const stop = async () => {};

test("each component is listed after the components that must stop before it, regardless of the order of registration", () => {
  const components = createShutdownComponents();
  components.add({ name: "http", after: ["streams", "jobs"], stop });
  components.add({ name: "streams", after: ["answers"], stop });
  components.add({ name: "answers", stop });
  components.add({ name: "jobs", after: ["answers"], stop });
  expect(components.list().map(({ name }) => name)).toEqual(["answers", "streams", "jobs", "http"]);
});

test("a duplicate name, an unknown name or a cycle causes an error", () => {
  const components = createShutdownComponents();
  components.add({ name: "a", after: ["b"], stop });
  expect(() => components.add({ name: "a", stop })).toThrow("A component named a already exists.");
  expect(() => components.list()).toThrow("a stops after b, which is not a component.");
  components.add({ name: "b", after: ["c"], stop });
  components.add({ name: "c", after: ["a"], stop });
  expect(() => components.list()).toThrow("Components wait for each other in a cycle: a, b, c, a.");
});
