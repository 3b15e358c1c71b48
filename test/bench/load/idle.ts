// Load process: opens connections, and keeps them idle.
import { serveSteps } from "../support/load.ts";
import { openSessions, type Target } from "./session.ts";

export type IdleStep = { target: Target; connections: number };

serveSteps(async ({ target, connections }: IdleStep) => {
  await openSessions(target, connections, { onAck() {}, onPush() {} });
  return {};
});
