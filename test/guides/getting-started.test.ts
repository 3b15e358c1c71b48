import { expect, setDefaultTimeout, test } from "bun:test";
import { runGuide } from "./run-guide.ts";

setDefaultTimeout(120_000);

test("README.md runs as printed, and a second time", () =>
  runGuide("README.md", {
    twice: true,
    async afterwards({ readScreen }) {
      const screen = readScreen("main");
      expect(screen.match(/^event: message\.completed$/gm)).toHaveLength(2);
      expect(screen.match(/^user: How do I connect a model\?$/gm)).toHaveLength(2);
      expect(screen.match(/^assistant: \S/gm)?.length).toBeGreaterThanOrEqual(2);
      expect(screen.match(/type: 'message\.completed'/g)).toHaveLength(2);
    },
  }));

test("docs/getting-started.md runs as printed", () => runGuide("docs/getting-started.md"));
