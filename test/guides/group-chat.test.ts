import { setDefaultTimeout, test } from "bun:test";
import { runGuide } from "./run-guide.ts";

setDefaultTimeout(120_000);

test("the commands in docs/group-chat.md work as written", () => runGuide("docs/group-chat.md"));
