import { setDefaultTimeout, test } from "bun:test";
import { runGuide } from "./run-guide.ts";

setDefaultTimeout(180_000);

test("docs/deployment.md does what it prints", () => runGuide("docs/deployment.md"));
