import { setDefaultTimeout, test } from "bun:test";
import { runGuide } from "./run-guide.ts";

setDefaultTimeout(60_000);

test("README.md runs as printed, and a second time", () => runGuide("README.md", { twice: true }));
