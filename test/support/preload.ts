// production-mode.ts must be imported before the framework, because the framework's responses depend on the mode.
import "../../src/commands/production-mode.ts";
import { afterAll } from "bun:test";
import { runCleanups } from "./after-test-run.ts";
import { checkFetchResponses } from "./conformance/check-fetch.ts";
import { checkWebSockets } from "./conformance/check-sockets.ts";
import { failTestsOnViolations } from "./conformance/violations.ts";
import { configurePropertyTests } from "./property-tests.ts";

configurePropertyTests();
checkFetchResponses();
checkWebSockets();
failTestsOnViolations();
afterAll(runCleanups);
