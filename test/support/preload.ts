// As in the executable, and before the framework is imported, because its responses depend on it.
import "../../src/commands/production-mode.ts";
import { afterAll } from "bun:test";
import { endRun } from "./end-of-run.ts";
import { configureProperties } from "./properties.ts";
import { failTestsOnViolations } from "./pushes.ts";

configureProperties();
failTestsOnViolations();
afterAll(endRun);
