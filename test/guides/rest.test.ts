import { setDefaultTimeout, test } from "bun:test";
import { runGuide } from "./run-guide.ts";

setDefaultTimeout(120_000);

test("docs/rest.md runs as printed", () => runGuide("docs/rest.md"));
test("docs/prompts.md runs as printed", () => runGuide("docs/prompts.md"));
