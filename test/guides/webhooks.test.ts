import { setDefaultTimeout, test } from "bun:test";
import { runGuide } from "./run-guide.ts";

setDefaultTimeout(120_000);

test("the commands in docs/webhooks.md work as written", () =>
  runGuide("docs/webhooks.md", { ports: [3000, 8080, 8081, 8082], files: ["node_modules"] }));
