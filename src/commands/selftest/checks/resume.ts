import { waitForAnswer, waitUntilNotStreaming } from "../answers.ts";
import type { Check } from "../check.ts";
import { findAnswerProblems, findLimitProblems, findTakeoverProblems } from "../find-problems.ts";
import { formatMs, formatQuantity } from "../measurements.ts";
import { createNumberedWords, LONG_WORDS } from "../provider/scripts.ts";
import { assembleAnswer } from "../received-answer.ts";

/** Maximum time from a kill until another attempt has finished the answer. docs/models.md promises it. */
export const TAKEOVER_MAX_MS = 15_000;

export const resumeCheck: Check = {
  name: "resume",
  claim: "The answer that was being written during the kill is finished within 15 s, without lost or repeated words.",
  timeoutMs: 30_000,

  async run(context) {
    const { server, users, interruptedWork } = context;
    if (interruptedWork === null) throw new Error("expected an interrupted answer, but there is none");
    const { killedAtMs, answer, storm, loadConversationId } = interruptedWork;
    const timeoutMs = Math.max(1_000, killedAtMs + TAKEOVER_MAX_MS + 5_000 - performance.now());
    const receivedAnswer = await waitForAnswer(answer.reader, answer.id, { timeoutMs, earlierFrames: answer.frames });
    const durationMs = performance.now() - killedAtMs;
    const storedAnswer = await server.rest.getMessage(users.ada, answer.conversationId, answer.id);
    const textBeforeKill = assembleAnswer(answer.frames, answer.id).text;
    const conversationIds = [answer.conversationId, storm.conversationId, loadConversationId];
    const streamingMessages = await waitUntilNotStreaming(
      server.rest,
      users.ada,
      conversationIds,
      killedAtMs + TAKEOVER_MAX_MS,
    );
    await answer.reader.close();
    return {
      summary: `${textBeforeKill.length} of ${storedAnswer.content.length} characters before the kill; finished ${formatMs(durationMs)} after it; ${formatQuantity(streamingMessages.length, "message")} still streaming`,
      measured: {
        characters_before: textBeforeKill.length,
        characters: storedAnswer.content.length,
        finished_after_ms: Math.round(durationMs),
      },
      problems: [
        ...findAnswerProblems("answer", createNumberedWords(LONG_WORDS), receivedAnswer, storedAnswer),
        ...findTakeoverProblems("answer", receivedAnswer),
        ...findLimitProblems("from the kill to the end of the answer", durationMs, TAKEOVER_MAX_MS),
        ...streamingMessages.map(({ id }) => `expected no message to stay streaming, but ${id} does`),
      ],
    };
  },
};
