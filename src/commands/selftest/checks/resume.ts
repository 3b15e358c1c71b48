import { findStreaming, readToEnd } from "../asking.ts";
import type { Check } from "../check.ts";
import { formatMs, formatQuantity } from "../figures.ts";
import { LONG_WORDS, writeText } from "../provider/scripts.ts";
import { followAnswer } from "../reading.ts";
import { findAnswerProblems, findLimitProblems, findTakeoverProblems } from "../verdicts.ts";

/** The limit that docs/models.md promises. */
export const TAKEOVER_MAX_MS = 15_000;

export const resumeCheck: Check = {
  name: "resume",
  claim: "The answer that was being written during the kill is finished within 15 s, without lost or repeated words.",
  timeoutMs: 30_000,

  async run(stage) {
    const { server, people, interrupted } = stage;
    if (interrupted === null) throw new Error("expected an interrupted answer, but there is none");
    const { killedAtMs, answer, storm, loadConversationId } = interrupted;
    const timeoutMs = Math.max(1_000, killedAtMs + TAKEOVER_MAX_MS + 5_000 - performance.now());
    const reading = await readToEnd(answer.reader, answer.id, { timeoutMs, before: answer.frames });
    const tookMs = performance.now() - killedAtMs;
    const stored = await server.rest.getMessage(people.ada, answer.conversationId, answer.id);
    const before = followAnswer(answer.frames, answer.id).text;
    const all = [answer.conversationId, storm.conversationId, loadConversationId];
    const streaming = await findStreaming(server.rest, people.ada, all, killedAtMs + TAKEOVER_MAX_MS);
    await answer.reader.close();
    return {
      summary: `${before.length} of ${stored.content.length} characters before the kill; finished ${formatMs(tookMs)} after it; ${formatQuantity(streaming.length, "message")} still streaming`,
      measured: {
        characters_before: before.length,
        characters: stored.content.length,
        finished_after_ms: Math.round(tookMs),
      },
      problems: [
        ...findAnswerProblems("answer", writeText(LONG_WORDS), reading, stored),
        ...findTakeoverProblems("answer", reading),
        ...findLimitProblems("from the kill to the end of the answer", tookMs, TAKEOVER_MAX_MS),
        ...streaming.map(({ id }) => `expected no message to stay streaming, but ${id} does`),
      ],
    };
  },
};
