import { setDefaultTimeout, test } from "bun:test";
import { runGuide } from "./run-guide.ts";

setDefaultTimeout(120_000);

test("docs/administration.md does what it prints", () => runGuide("docs/administration.md"));
