import { setDefaultTimeout, test } from "bun:test";
import { runGuide } from "./run-guide.ts";

setDefaultTimeout(120_000);

test("the commands in docs/rest.md work as written", () => runGuide("docs/rest.md"));
test("the commands in docs/prompts.md work as written", () => runGuide("docs/prompts.md"));
