import { expect, test } from "bun:test";
import { createShutdownParts } from "../../src/lib/shutdown-parts.ts";

const stop = async () => {};

test("each part is listed after the parts that must stop before it, whatever the order of registration", () => {
  const parts = createShutdownParts();
  parts.add({ name: "http", after: ["streams", "jobs"], stop });
  parts.add({ name: "streams", after: ["answers"], stop });
  parts.add({ name: "answers", stop });
  parts.add({ name: "jobs", after: ["answers"], stop });
  expect(parts.list().map(({ name }) => name)).toEqual(["answers", "streams", "jobs", "http"]);
});

test("a duplicate name, an unknown name or a cycle causes an error", () => {
  const parts = createShutdownParts();
  parts.add({ name: "a", after: ["b"], stop });
  expect(() => parts.add({ name: "a", stop })).toThrow("A part named a already exists.");
  expect(() => parts.list()).toThrow("a stops after b, which is not a part.");
  parts.add({ name: "b", after: ["c"], stop });
  parts.add({ name: "c", after: ["a"], stop });
  expect(() => parts.list()).toThrow("Parts wait for each other in a cycle: a, b, c, a.");
});
