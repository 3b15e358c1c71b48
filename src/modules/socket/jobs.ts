import type { Jobs } from "../../jobs/runner.ts";
import type { ApiKeyService } from "../api-keys/service.ts";
import type { AuthService } from "../auth/service.ts";
import type { Streams } from "../messages/service.ts";
import type { Sockets } from "./sockets.ts";

const SWEEP_MS = 1_000;
/** Who has just been let in by what is remembered for a second must still go within two. */
const ENDED_SESSIONS_MS = 500;
/** Looks back further than its last look: a commit may come late. */
const LATE_MS = 15_000;

type Dependencies = {
  sockets: Sockets;
  streams: Streams;
  auth: Pick<AuthService, "findEndedSessions">;
  apiKeys: Pick<ApiKeyService, "findEnded">;
};

export function registerSocketJobs(jobs: Jobs, { sockets, streams, auth, apiKeys }: Dependencies): void {
  jobs.everyOnEach("sockets", SWEEP_MS, async () => sockets.sweep());
  // On the command line, by an administrator, or where the bus has lost it: their sockets and streams have to go.
  let lookedAtMs = performance.now();
  jobs.everyOnEach("ended-sessions", ENDED_SESSIONS_MS, async () => {
    const nowMs = performance.now();
    if (sockets.count() + streams.count() > 0) {
      // The database may have been away, or slow, for longer than it looks back otherwise.
      const ended = (await auth.findEndedSessions(nowMs - lookedAtMs + LATE_MS)).map(({ id }) => id);
      const lockedOut = await apiKeys.findEnded([...sockets.listKeyCallers(), ...streams.listKeyCallers()]);
      for (const open of [sockets, streams]) {
        open.endCredentials(ended);
        open.endCallers(lockedOut);
      }
    }
    lookedAtMs = nowMs;
  });
}
