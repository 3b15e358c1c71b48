import { setDefaultTimeout, test } from "bun:test";
import { runGuide } from "./run-guide.ts";

setDefaultTimeout(120_000);

test("the commands in docs/troubleshooting.md work as written", () =>
  runGuide("docs/troubleshooting.md", { ports: [3000, 3001] }));
