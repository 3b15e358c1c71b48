import { setDefaultTimeout, test } from "bun:test";
import { runGuide } from "./run-guide.ts";

setDefaultTimeout(180_000);

test("the commands in docs/deployment.md work as written", () => runGuide("docs/deployment.md"));
