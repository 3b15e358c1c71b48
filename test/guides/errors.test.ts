import { setDefaultTimeout, test } from "bun:test";
import { runGuide } from "./run-guide.ts";

setDefaultTimeout(180_000);

test("docs/errors.md does what it prints", () => runGuide("docs/errors.md"));
