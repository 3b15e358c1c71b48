// Load process: opens connections, and keeps them idle.
import { serveSteps } from "../support/load.ts";
import { type LoadTarget, openSessions } from "./session.ts";

export type IdleStep = { target: LoadTarget; connections: number };

serveSteps(async ({ target, connections }: IdleStep) => {
  await openSessions(target, connections, { onAck() {}, onPush() {} });
  return {};
});
