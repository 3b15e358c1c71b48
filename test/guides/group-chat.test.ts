import { setDefaultTimeout, test } from "bun:test";
import { runGuide } from "./run-guide.ts";

setDefaultTimeout(120_000);

test("docs/group-chat.md runs as printed", () => runGuide("docs/group-chat.md"));
