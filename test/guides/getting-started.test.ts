import { expect, setDefaultTimeout, test } from "bun:test";
import { runGuide } from "./run-guide.ts";

setDefaultTimeout(120_000);

test("the commands in README.md work as written, even when run twice", () =>
  runGuide("README.md", {
    shouldTypeTwice: true,
    async checkResults({ readScreen }) {
      const screen = readScreen("main");
      expect(screen.match(/^event: message\.completed$/gm)).toHaveLength(2);
      expect(screen.match(/^user: How do I connect a model\?$/gm)).toHaveLength(2);
      expect(screen.match(/^assistant: \S/gm)?.length).toBeGreaterThanOrEqual(2);
      expect(screen.match(/type: 'message\.completed'/g)).toHaveLength(2);
    },
  }));

test("the commands in docs/getting-started.md work as written", () => runGuide("docs/getting-started.md"));
