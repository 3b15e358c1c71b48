// As in the executable, and before the framework is imported, because its responses depend on it.
import "../../src/commands/production-mode.ts";
import { afterAll } from "bun:test";
import { tapFetch } from "./conformance/tap-fetch.ts";
import { tapSockets } from "./conformance/tap-sockets.ts";
import { failTestsOnViolations } from "./conformance/violations.ts";
import { endRun } from "./end-of-run.ts";
import { configureProperties } from "./properties.ts";

configureProperties();
tapFetch();
tapSockets();
failTestsOnViolations();
afterAll(endRun);
