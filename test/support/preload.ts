import { afterAll } from "bun:test";
import { endRun } from "./end-of-run.ts";
import { stopTestServer } from "./postgres.ts";

afterAll(stopTestServer);
afterAll(endRun);
