import { requestAnswer, waitForAnswer, waitForText } from "../answers.ts";
import type { Check } from "../check.ts";
import { findAnswerProblems, findLimitProblems, findTakeoverProblems } from "../find-problems.ts";
import { formatMs } from "../measurements.ts";
import { createNumberedWords, LONG_MODEL, LONG_WORDS } from "../provider/scripts.ts";
import { assembleAnswer, listSeqs } from "../received-answer.ts";
import { connectAndSubscribe } from "../socket.ts";
import { SHUTDOWN_TIMEOUT_MS } from "./backup.ts";
import { TAKEOVER_MAX_MS } from "./resume.ts";

const ANSWER_CHARS_MIN = 100;
/** Time to close the database and exit, even on a busy machine. */
const EXIT_MARGIN_MS = 8_000;
/** Close code of a server that is shutting down; see docs/realtime.md. */
const DRAINING_CODE = 4001;

export const shutdownCheck: Check = {
  name: "shutdown",
  claim:
    "SIGTERM during an answer: clients are told to reconnect, the exit code is 0, and the next start finishes the answer.",
  timeoutMs: 60_000,

  async run(context) {
    const { server, users, sandbox } = context;
    const { ada } = users;
    const conversationId = await server.rest.createConversation(ada, [], "Shutdown");
    const socket = await connectAndSubscribe(server.url, ada.token, conversationId);
    const answerId = await requestAnswer(socket, conversationId, LONG_MODEL);
    await waitForText(socket, answerId, ANSWER_CHARS_MIN);
    const { code, durationMs: stopMs } = await server.stop();
    const closeCode = await socket.closed;
    const problems: string[] = [];
    if (code !== 0) problems.push(`expected exit code 0, but got ${code}`);
    if (closeCode !== DRAINING_CODE) problems.push(`expected close code ${DRAINING_CODE}, but got ${closeCode}`);
    if (!socket.frames.some(({ type }) => type === "server.draining"))
      problems.push("expected the frame server.draining, but didn't receive it");
    problems.push(...findLimitProblems("from SIGTERM to the exit", stopMs, SHUTDOWN_TIMEOUT_MS + EXIT_MARGIN_MS));

    const startedAtMs = performance.now();
    context.server = await sandbox.start({ dataDir: server.dataDir, settings: context.provider.settings });
    const lastSeq = listSeqs(socket.frames, conversationId).at(-1);
    const reader = await connectAndSubscribe(context.server.url, ada.token, conversationId, lastSeq);
    const timeoutMs = TAKEOVER_MAX_MS + 5_000;
    const receivedAnswer = await waitForAnswer(reader, answerId, { timeoutMs, earlierFrames: socket.frames });
    const finishDurationMs = performance.now() - startedAtMs;
    const storedAnswer = await context.server.rest.getMessage(ada, conversationId, answerId);
    problems.push(
      ...findAnswerProblems("answer", createNumberedWords(LONG_WORDS), receivedAnswer, storedAnswer),
      ...findTakeoverProblems("answer", receivedAnswer),
      ...findLimitProblems("from the next start to the end of the answer", finishDurationMs, TAKEOVER_MAX_MS),
    );
    const charsBeforeShutdown = assembleAnswer(socket.frames, answerId).text.length;
    await reader.close();
    return {
      summary: `exit code ${code} after ${formatMs(stopMs)}; ${charsBeforeShutdown} characters before; finished ${formatMs(finishDurationMs)} after the next start`,
      measured: {
        exit_code: code,
        stop_ms: Math.round(stopMs),
        characters_before: charsBeforeShutdown,
        finished_after_ms: Math.round(finishDurationMs),
      },
      problems,
    };
  },
};
