import { EXTRA_CONNECTIONS_MAX } from "../../../db/connect.ts";
import { startEmbeddedPostgres } from "../../../db/embedded.ts";
import { createSecret } from "../../../lib/id.ts";
import { createLog } from "../../../lib/log.ts";
import { requestAnswer, waitForAnswer, waitForText } from "../answers.ts";
import type { Check } from "../check.ts";
import type { CheckContext } from "../check-context.ts";
import {
  findAnswerProblems,
  findLimitProblems,
  findLossProblems,
  findSequenceProblems,
  findTakeoverProblems,
} from "../find-problems.ts";
import { formatMs, formatQuantity } from "../measurements.ts";
import { createNumberedWords, LONG_MODEL, LONG_WORDS } from "../provider/scripts.ts";
import { listCreatedMessages, listSeqs } from "../received-answer.ts";
import { startSender } from "../sender.ts";
import { connectAndSubscribe } from "../socket.ts";
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

  async run(context) {
    const settings = { ...context.provider.settings, ...(await startDatabase(context)), JWT_SECRET: createSecret() };
    const startInstance = () => context.sandbox.start({ dataDir: context.sandbox.addDataDir(), settings });
    // Both instances start simultaneously. One migrates the database while the other waits.
    const [firstServer, secondServer] = await Promise.all([startInstance(), startInstance()]);
    const [ada, ben] = await Promise.all([firstServer.rest.register("ada"), secondServer.rest.register("ben")]);
    const conversationId = await firstServer.rest.createConversation(ada, [ben], "Instances");
    const [adaSocket, benSocket] = await Promise.all([
      connectAndSubscribe(firstServer.url, ada.token, conversationId),
      connectAndSubscribe(secondServer.url, ben.token, conversationId),
    ]);
    const options = { conversationId, inFlightMax: IN_FLIGHT, messagesMax: MESSAGES_PER_USER };
    const senders = [
      startSender({ ...options, socket: adaSocket, name: "ada" }),
      startSender({ ...options, socket: benSocket, name: "ben" }),
    ];
    await Promise.all(senders.map(({ done }) => done));
    const acknowledgedMessages = new Map(senders.flatMap((sender) => [...sender.acknowledged]));
    const seqs = [...acknowledgedMessages.values()].map(({ seq }) => seq);
    const lastSeq = Math.max(...seqs);
    for (const socket of [adaSocket, benSocket])
      await socket.waitFor(`the push with seq ${lastSeq}`, ({ seq }) => seq === lastSeq);
    const problems = senders.flatMap(({ problems }) => problems);
    for (const [name, socket] of [
      ["the first instance", adaSocket] as const,
      ["the second instance", benSocket] as const,
    ]) {
      problems.push(...findSequenceProblems(name, listSeqs(socket.frames, conversationId), Math.min(...seqs), lastSeq));
      problems.push(
        ...findLossProblems(name, acknowledgedMessages, listCreatedMessages(socket.frames, conversationId)),
      );
    }

    const answerId = await requestAnswer(adaSocket, conversationId, LONG_MODEL);
    await waitForText(benSocket, answerId, ANSWER_CHARS_MIN);
    const killedAtMs = performance.now();
    await firstServer.kill();
    const receivedAnswer = await waitForAnswer(benSocket, answerId, { timeoutMs: TAKEOVER_MAX_MS + 5_000 });
    const durationMs = performance.now() - killedAtMs;
    const storedAnswer = await secondServer.rest.getMessage(ben, conversationId, answerId);
    problems.push(
      ...findAnswerProblems("answer", createNumberedWords(LONG_WORDS), receivedAnswer, storedAnswer),
      ...findTakeoverProblems("answer", receivedAnswer),
      ...findLimitProblems("from the kill to the end of the answer", durationMs, TAKEOVER_MAX_MS),
    );
    await benSocket.close();
    await secondServer.stop();
    return {
      summary: `${formatQuantity(acknowledgedMessages.size, "message")} across instances; answer finished by the other ${formatMs(durationMs)} after kill -9`,
      measured: { messages: acknowledgedMessages.size, finished_after_ms: Math.round(durationMs) },
      problems,
    };
  },
};

/**
 * Starts an embedded Postgres, which both instances connect to through its socket.
 * @returns the settings for connecting to it.
 */
async function startDatabase({ sandbox }: CheckContext): Promise<Record<string, string>> {
  const startingPostgres = startEmbeddedPostgres({
    dataDir: sandbox.addDataDir(),
    poolSize: 2 * (POOL_SIZE + EXTRA_CONNECTIONS_MAX),
    log: createLog("silent", "json"),
  });
  // The callback is registered before Postgres has started, because the self-test may be interrupted during the start.
  sandbox.onClose(async () => (await startingPostgres.catch(() => null))?.stop());
  const postgres = await startingPostgres;
  // If the folder's path is too long for a socket, it is replaced by a path under /proc/self, which other processes can't use.
  const folder = postgres.socketDirectory.replace("/proc/self/", `/proc/${process.pid}/`);
  return { DATABASE_URL: `postgres://${postgres.user}@/parley?host=${encodeURIComponent(folder)}` };
}
