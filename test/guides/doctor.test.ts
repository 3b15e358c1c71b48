import { setDefaultTimeout, test } from "bun:test";
import { runGuide } from "./run-guide.ts";

setDefaultTimeout(120_000);

test("docs/doctor.md shows what parley doctor prints", () => runGuide("docs/doctor.md", { ports: [3000] }));
