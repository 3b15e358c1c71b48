import { setDefaultTimeout, test } from "bun:test";
import { runGuide } from "./run-guide.ts";

setDefaultTimeout(120_000);

test("docs/backup.md does what it prints: a lost machine is restored, and its users stay logged in", () =>
  runGuide("docs/backup.md"));
