import { EXTRA_CONNECTIONS_MAX } from "../../../db/connect.ts";
import { startEmbeddedPostgres } from "../../../db/embedded.ts";
import { createSecret } from "../../../lib/id.ts";
import { createLog } from "../../../lib/log.ts";
import { ask, readToEnd, untilText } from "../asking.ts";
import type { Check } from "../check.ts";
import { formatMs, formatQuantity } from "../figures.ts";
import { LONG_MODEL, LONG_WORDS, writeText } from "../provider/scripts.ts";
import { listCreated, listSeqs } from "../reading.ts";
import { startSender } from "../sender.ts";
import { openSubscribed } from "../socket.ts";
import type { Stage } from "../stage.ts";
import {
  findAnswerProblems,
  findLimitProblems,
  findLossProblems,
  findSequenceProblems,
  findTakeoverProblems,
} from "../verdicts.ts";
import { TAKEOVER_MAX_MS } from "./resume.ts";

const MESSAGES_PER_USER = 100;
const IN_FLIGHT = 4;
const ANSWER_CHARS_MIN = 100;
/** The default of DATABASE_POOL_SIZE. */
const POOL_SIZE = 10;

export const instancesCheck: Check = {
  name: "instances",
  claim:
    "Two instances on one database deliver each other's messages; if one is killed, the other finishes its answer.",
  timeoutMs: 60_000,

  async run(stage) {
    const settings = { ...stage.provider.settings, ...(await startDatabase(stage)), JWT_SECRET: createSecret() };
    const start = () => stage.sandbox.start({ dataDir: stage.sandbox.addDataDir(), settings });
    // Both start at once: one migrates the database, the other waits.
    const [here, there] = await Promise.all([start(), start()]);
    const [ada, ben] = await Promise.all([here.rest.register("ada"), there.rest.register("ben")]);
    const conversationId = await here.rest.createConversation(ada, [ben], "Instances");
    const [adas, bens] = await Promise.all([
      openSubscribed(here.url, ada.token, conversationId),
      openSubscribed(there.url, ben.token, conversationId),
    ]);
    const options = { conversationId, inFlight: IN_FLIGHT, messagesMax: MESSAGES_PER_USER };
    const senders = [
      startSender({ ...options, socket: adas, name: "here" }),
      startSender({ ...options, socket: bens, name: "there" }),
    ];
    await Promise.all(senders.map(({ done }) => done));
    const acknowledged = new Map(senders.flatMap((sender) => [...sender.acknowledged]));
    const seqs = [...acknowledged.values()].map(({ seq }) => seq);
    const lastSeq = Math.max(...seqs);
    for (const socket of [adas, bens])
      await socket.waitFor(`the push with seq ${lastSeq}`, ({ seq }) => seq === lastSeq);
    const problems = senders.flatMap(({ problems }) => problems);
    for (const [name, socket] of [["the first instance", adas] as const, ["the second instance", bens] as const]) {
      problems.push(...findSequenceProblems(name, listSeqs(socket.frames, conversationId), Math.min(...seqs), lastSeq));
      problems.push(...findLossProblems(name, acknowledged, listCreated(socket.frames, conversationId)));
    }

    const answerId = await ask(adas, conversationId, LONG_MODEL);
    await untilText(bens, answerId, ANSWER_CHARS_MIN);
    const killedAtMs = performance.now();
    await here.kill();
    const reading = await readToEnd(bens, answerId, { timeoutMs: TAKEOVER_MAX_MS + 5_000 });
    const tookMs = performance.now() - killedAtMs;
    const stored = await there.rest.getMessage(ben, conversationId, answerId);
    problems.push(
      ...findAnswerProblems("answer", writeText(LONG_WORDS), reading, stored),
      ...findTakeoverProblems("answer", reading),
      ...findLimitProblems("from the kill to the end of the answer", tookMs, TAKEOVER_MAX_MS),
    );
    await bens.close();
    await there.stop();
    return {
      summary: `${formatQuantity(acknowledged.size, "message")} across instances; answer finished by the other ${formatMs(tookMs)} after kill -9`,
      measured: { messages: acknowledged.size, finished_after_ms: Math.round(tookMs) },
      problems,
    };
  },
};

/**
 * Starts an embedded Postgres in this process, which both instances reach through its socket.
 * @returns the settings for connecting to it.
 */
async function startDatabase({ sandbox }: Stage): Promise<Record<string, string>> {
  const starting = startEmbeddedPostgres({
    dataDir: sandbox.addDataDir(),
    poolSize: 2 * (POOL_SIZE + EXTRA_CONNECTIONS_MAX),
    log: createLog("silent", "json"),
  });
  // Registered before it has started, because the self-test may be interrupted meanwhile.
  sandbox.onClose(async () => (await starting.catch(() => null))?.stop());
  const postgres = await starting;
  // A path that is too long is reached through an open descriptor, whose path is different in other processes.
  const folder = postgres.socketDirectory.replace("/proc/self/", `/proc/${process.pid}/`);
  return { DATABASE_URL: `postgres://${postgres.user}@/parley?host=${encodeURIComponent(folder)}` };
}
