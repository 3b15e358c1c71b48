import { requestAnswer, waitForAnswer } from "../answers.ts";
import type { Check } from "../check.ts";
import type { CheckContext } from "../check-context.ts";
import { findAnswerProblems, findLimitProblems, findTakeoverProblems } from "../find-problems.ts";
import { formatMs, roundMs } from "../measurements.ts";
import {
  createNumberedWords,
  FLAKY_TIMEOUT_MS,
  type flakyModels,
  SHORT_MODEL,
  SHORT_RETRY_S,
  SHORT_WORDS,
} from "../provider/scripts.ts";
import { connectAndSubscribe } from "../socket.ts";

/** Time to detect a failure, send a request to the next model and receive its answer, even on a busy machine. */
const MARGIN_MS = 5_000;

type FailoverCase = {
  model: keyof typeof flakyModels;
  /** The name in the report. */
  name: string;
  /** Minimum duration of the answer, which may include a retry delay. */
  waitMs: number;
  /** Whether the model fails after it has sent some text. */
  isMidAnswer: boolean;
  /** The model that finishes the answer. If absent, the next one. */
  finalModel?: string;
};

const cases: FailoverCase[] = [
  { model: "error-500", name: "status 500", waitMs: 0, isMidAnswer: false },
  { model: "error-429", name: "429, retry after 60 s", waitMs: 0, isMidAnswer: false },
  {
    model: "busy-once",
    name: "429, retry after 1 s",
    waitMs: SHORT_RETRY_S * 1_000,
    isMidAnswer: false,
    finalModel: "flaky/busy-once",
  },
  { model: "hang", name: "hang", waitMs: FLAKY_TIMEOUT_MS, isMidAnswer: false },
  { model: "cut", name: "cut", waitMs: 0, isMidAnswer: true },
  { model: "unfinished", name: "no end marker", waitMs: 0, isMidAnswer: true },
  { model: "error-event", name: "error event", waitMs: 0, isMidAnswer: true },
  { model: "slow", name: "slow but alive", waitMs: SHORT_WORDS * 60, isMidAnswer: false, finalModel: "flaky/slow" },
];

export const failoverCheck: Check = {
  name: "failover",
  claim: "If a model fails before or during its answer, the next one takes over, and the text is complete and correct.",
  timeoutMs: 40_000,

  async run(context) {
    const results = await Promise.all(cases.map((testCase) => runCase(context, testCase)));
    return {
      summary: results.map(({ name, durationMs }) => `${name} ${formatMs(durationMs)}`).join(", "),
      measured: Object.fromEntries(
        results.map(({ model, durationMs }) => [`${model.replaceAll("-", "_")}_ms`, roundMs(durationMs)]),
      ),
      problems: results.flatMap(({ problems }) => problems),
    };
  },
};

async function runCase({ server, users, provider }: CheckContext, testCase: FailoverCase) {
  const { model, name, waitMs, isMidAnswer, finalModel = SHORT_MODEL } = testCase;
  const conversationId = await server.rest.createConversation(users.ada, [], name);
  const socket = await connectAndSubscribe(server.url, users.ada.token, conversationId);
  const startedAtMs = performance.now();
  const answerId = await requestAnswer(socket, conversationId, `flaky/${model}`);
  const receivedAnswer = await waitForAnswer(socket, answerId, { timeoutMs: waitMs + 2 * MARGIN_MS });
  const durationMs = performance.now() - startedAtMs;
  const storedAnswer = await server.rest.getMessage(users.ada, conversationId, answerId);
  const problems = findAnswerProblems(name, createNumberedWords(SHORT_WORDS), receivedAnswer, storedAnswer);
  if (isMidAnswer) problems.push(...findTakeoverProblems(name, receivedAnswer));
  problems.push(...findLimitProblems(name, durationMs, waitMs + MARGIN_MS));
  if (durationMs < waitMs * 0.9)
    problems.push(`${name}: expected at least ${waitMs} ms, but it took ${Math.round(durationMs)} ms`);
  if (storedAnswer.model !== finalModel)
    problems.push(`${name}: expected an answer from ${finalModel}, but got ${storedAnswer.model}`);
  if (provider.countRequests(model) === 0) problems.push(`${name}: expected a request to flaky/${model}, but got none`);
  await socket.close();
  return { model, name, durationMs, problems };
}
