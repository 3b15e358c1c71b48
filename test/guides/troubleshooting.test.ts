import { setDefaultTimeout, test } from "bun:test";
import { runGuide } from "./run-guide.ts";

setDefaultTimeout(120_000);

test("docs/troubleshooting.md shows what Parley prints", () =>
  runGuide("docs/troubleshooting.md", { ports: [3000, 3001] }));
