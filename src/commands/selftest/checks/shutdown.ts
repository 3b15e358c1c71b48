import { ask, readToEnd, untilText } from "../asking.ts";
import type { Check } from "../check.ts";
import { formatMs } from "../figures.ts";
import { LONG_MODEL, LONG_WORDS, writeText } from "../provider/scripts.ts";
import { followAnswer, listSeqs } from "../reading.ts";
import { openSubscribed } from "../socket.ts";
import { findAnswerProblems, findLimitProblems, findTakeoverProblems } from "../verdicts.ts";
import { SHUTDOWN_TIMEOUT_MS } from "./backup.ts";
import { TAKEOVER_MAX_MS } from "./resume.ts";

const ANSWER_CHARS_MIN = 100;
/** Time for closing the database and exiting, even on a busy machine. */
const END_MARGIN_MS = 8_000;
/** The close code "draining, reconnect with backoff"; see docs/realtime.md. */
const DRAINING_CODE = 4001;

export const shutdownCheck: Check = {
  name: "shutdown",
  claim:
    "SIGTERM during an answer: clients are told to reconnect, the exit code is 0, and the next start finishes the answer.",
  timeoutMs: 60_000,

  async run(stage) {
    const { server, people, sandbox } = stage;
    const { ada } = people;
    const conversationId = await server.rest.createConversation(ada, [], "Shutdown");
    const socket = await openSubscribed(server.url, ada.token, conversationId);
    const answerId = await ask(socket, conversationId, LONG_MODEL);
    await untilText(socket, answerId, ANSWER_CHARS_MIN);
    const { code, tookMs: stopMs } = await server.stop();
    const closeCode = await socket.closed;
    const problems: string[] = [];
    if (code !== 0) problems.push(`expected exit code 0, but got ${code}`);
    if (closeCode !== DRAINING_CODE) problems.push(`expected close code ${DRAINING_CODE}, but got ${closeCode}`);
    if (!socket.frames.some(({ type }) => type === "server.draining"))
      problems.push("expected the frame server.draining, but it didn't come");
    problems.push(...findLimitProblems("from SIGTERM to the exit", stopMs, SHUTDOWN_TIMEOUT_MS + END_MARGIN_MS));

    const startedAtMs = performance.now();
    stage.server = await sandbox.start({ dataDir: server.dataDir, settings: stage.provider.settings });
    const last = listSeqs(socket.frames, conversationId).at(-1);
    const reader = await openSubscribed(stage.server.url, ada.token, conversationId, last);
    const timeoutMs = TAKEOVER_MAX_MS + 5_000;
    const reading = await readToEnd(reader, answerId, { timeoutMs, before: socket.frames });
    const finishedMs = performance.now() - startedAtMs;
    const stored = await stage.server.rest.getMessage(ada, conversationId, answerId);
    problems.push(
      ...findAnswerProblems("answer", writeText(LONG_WORDS), reading, stored),
      ...findTakeoverProblems("answer", reading),
      ...findLimitProblems("from the next start to the end of the answer", finishedMs, TAKEOVER_MAX_MS),
    );
    const before = followAnswer(socket.frames, answerId).text.length;
    await reader.close();
    return {
      summary: `exit code ${code} after ${formatMs(stopMs)}; ${before} characters were shown before; finished ${formatMs(finishedMs)} after the next start`,
      measured: {
        exit_code: code,
        stop_ms: Math.round(stopMs),
        characters_before: before,
        finished_after_ms: Math.round(finishedMs),
      },
      problems,
    };
  },
};
