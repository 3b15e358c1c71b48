import { ask, readToEnd } from "../asking.ts";
import type { Check } from "../check.ts";
import { formatMs, roundMs } from "../figures.ts";
import {
  FLAKY_SILENCE_MS,
  type flakyModels,
  SHORT_MODEL,
  SHORT_RETRY_S,
  SHORT_WORDS,
  writeText,
} from "../provider/scripts.ts";
import { openSubscribed } from "../socket.ts";
import type { Stage } from "../stage.ts";
import { findAnswerProblems, findLimitProblems, findTakeoverProblems } from "../verdicts.ts";

/** Time for noticing a failure, asking the next model and reading its text, even on a busy machine. */
const MARGIN_MS = 5_000;

type Case = {
  model: keyof typeof flakyModels;
  /** Shown in the report. */
  name: string;
  /** The minimum time that the answer takes, for example because of a retry delay. */
  waitMs: number;
  /** Whether the model fails after some of its text was shown. */
  isMidAnswer: boolean;
  /** The model that finishes the answer; absent: the next one. */
  endsWith?: string;
};

const cases: Case[] = [
  { model: "error-500", name: "status 500", waitMs: 0, isMidAnswer: false },
  { model: "error-429", name: "429, retry after 60 s", waitMs: 0, isMidAnswer: false },
  {
    model: "busy-once",
    name: "429, retry after 1 s",
    waitMs: SHORT_RETRY_S * 1_000,
    isMidAnswer: false,
    endsWith: "flaky/busy-once",
  },
  { model: "hang", name: "hang", waitMs: FLAKY_SILENCE_MS, isMidAnswer: false },
  { model: "cut", name: "cut", waitMs: 0, isMidAnswer: true },
  { model: "unfinished", name: "no end marker", waitMs: 0, isMidAnswer: true },
  { model: "error-event", name: "error event", waitMs: 0, isMidAnswer: true },
  { model: "slow", name: "slow but alive", waitMs: SHORT_WORDS * 60, isMidAnswer: false, endsWith: "flaky/slow" },
];

export const failoverCheck: Check = {
  name: "failover",
  claim: "If a model fails before or during its answer, the next one takes over, and the text is complete and correct.",
  timeoutMs: 40_000,

  async run(stage) {
    const seen = await Promise.all(cases.map((testCase) => runCase(stage, testCase)));
    return {
      summary: seen.map(({ name, tookMs }) => `${name} ${formatMs(tookMs)}`).join(", "),
      measured: Object.fromEntries(
        seen.map(({ model, tookMs }) => [`${model.replaceAll("-", "_")}_ms`, roundMs(tookMs)]),
      ),
      problems: seen.flatMap(({ problems }) => problems),
    };
  },
};

async function runCase({ server, people, provider }: Stage, testCase: Case) {
  const { model, name, waitMs, isMidAnswer, endsWith = SHORT_MODEL } = testCase;
  const conversationId = await server.rest.createConversation(people.ada, [], name);
  const socket = await openSubscribed(server.url, people.ada.token, conversationId);
  const startedAtMs = performance.now();
  const answerId = await ask(socket, conversationId, `flaky/${model}`);
  const reading = await readToEnd(socket, answerId, { timeoutMs: waitMs + 2 * MARGIN_MS });
  const tookMs = performance.now() - startedAtMs;
  const stored = await server.rest.getMessage(people.ada, conversationId, answerId);
  const problems = findAnswerProblems(name, writeText(SHORT_WORDS), reading, stored);
  if (isMidAnswer) problems.push(...findTakeoverProblems(name, reading));
  problems.push(...findLimitProblems(name, tookMs, waitMs + MARGIN_MS));
  if (tookMs < waitMs * 0.9)
    problems.push(`${name}: expected at least ${waitMs} ms, but it took ${Math.round(tookMs)} ms`);
  if (stored.model !== endsWith) problems.push(`${name}: expected an answer by ${endsWith}, but got ${stored.model}`);
  if (provider.countRequests(model) === 0) problems.push(`${name}: expected a request to flaky/${model}, but got none`);
  await socket.close();
  return { model, name, tookMs, problems };
}
