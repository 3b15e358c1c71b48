// As in the executable, and before the framework is imported: what it answers depends on it.
import "../../src/commands/production-mode.ts";
import { afterAll } from "bun:test";
import { endRun } from "./end-of-run.ts";
import { configureProperties } from "./properties.ts";

configureProperties();
afterAll(endRun);
