import { type AnswerPart, applyPart, applyReasoning, type RunEnd } from "../answer-part.ts";
import type { ResumePoint } from "../attempt/answer.ts";
import { createOutputChecker } from "../format/check-output.ts";
import type { AnswerFormat, AnswerOptions, ChatMessage, PushPart } from "../provider.ts";
import { createCostTotal } from "./run-costs.ts";

/** Maximum length of an invalid answer that is sent back to the model, in UTF-16 code units. */
const INVALID_ANSWER_CHARS_MAX = 24_000;

/** The fields of a `RunRequest` that this file reads or changes. */
type FormattedRequest = {
  model: string | null;
  messages: readonly ChatMessage[];
  options?: AnswerOptions;
  resume?: ResumePoint | null;
  hasFallback?: boolean;
  questionIndex?: number;
  isRepairable?: boolean;
};

/**
 * Runs a request whose answer must have a specific format. If the answer is invalid, it is sent back once to the model that wrote
 * it, with a list of the problems. Readers receive a `reset` before the corrected text.
 * @throws InvalidSchemaError
 */
export async function runFormatted<Request extends FormattedRequest>(
  run: (request: Request, push: PushPart<AnswerPart>) => Promise<RunEnd>,
  request: Request,
  format: AnswerFormat,
  push: PushPart<AnswerPart>,
): Promise<RunEnd> {
  const checkOutput = createOutputChecker(format);
  const { resume = null, isRepairable = true, messages, options } = request;
  const total = createCostTotal();
  // The text of earlier steps is kept. The text of an incomplete step is dropped.
  const isNewStep = resume?.step !== undefined && resume.step !== "broken";
  const previousText = resume && isNewStep ? resume.text : "";
  const previousReasoning = isNewStep ? (resume?.reasoning ?? "") : "";
  let text = resume?.text ?? "";
  let reasoning = resume?.reasoning ?? "";
  let attempt = resume?.attempt ?? 0;
  const handlePart = (part: AnswerPart): void => {
    text = applyPart(text, part);
    if (part.type !== "text") reasoning = applyReasoning(reasoning, part);
    if (part.type === "start" || part.type === "reset") attempt = part.attempt;
    push(part);
  };

  const firstResume = resume && {
    ...resume,
    text: previousText,
    reasoning: previousReasoning,
    step: resume.step === "next" ? resume.step : ("restarted" as const),
  };
  const firstEnd = await run({ ...request, resume: firstResume }, handlePart);
  total.add(firstEnd);
  if (firstEnd.type !== "finish" || firstEnd.toolCalls.length > 0) return firstEnd;
  const output = await checkOutput(text.slice(previousText.length));
  if (output.type === "valid") return { ...firstEnd, output: { value: output.value } };
  // A correction would exceed the length limit too.
  if (firstEnd.reason !== "stop") return firstEnd;
  if (output.type === "unknown" || !isRepairable) return createFormatFailure(firstEnd, output.type === "unknown");

  const note: ChatMessage = { role: "user", content: writeRepairNote(output.problems) };
  const answerText = text.slice(previousText.length);
  const invalidAnswer: ChatMessage[] =
    answerText.length > INVALID_ANSWER_CHARS_MAX ? [] : [{ role: "assistant", content: answerText }];
  const repair = {
    ...request,
    model: firstEnd.model,
    hasFallback: false,
    messages: [...messages, ...invalidAnswer, note],
    // The model needs the question to understand the note.
    questionIndex: messages.findLastIndex(({ role }) => role === "user"),
    options: { ...options, ...(options?.tools?.length && { toolChoice: "none" as const }) },
    // The reasoning also led to the corrected text.
    resume: { text: previousText, reasoning, attempt, step: "restarted" as const },
  };
  const repairEnd = await run(repair, handlePart);
  total.add(repairEnd);
  if (repairEnd.type === "aborted") return { ...repairEnd, ...total.getTotal() };
  const repairedOutput = repairEnd.type === "finish" ? await checkOutput(text.slice(previousText.length)) : output;
  const end = { ...(repairEnd.type === "finish" ? repairEnd : firstEnd), ...total.getTotal() };
  if (repairEnd.type === "finish" && repairedOutput.type === "valid")
    return { ...end, output: { value: repairedOutput.value } };
  if (repairEnd.type === "finish" && repairEnd.reason !== "stop") return end;
  return createFormatFailure(end, repairedOutput.type === "unknown");
}

function writeRepairNote(problems: readonly string[]): string {
  return [
    "[Note from the chat server] Your answer doesn't have the requested format:",
    ...problems.map((problem) => `- ${problem}`),
    "Send the same answer again with these mistakes corrected. Write the JSON and nothing else.",
  ].join("\n");
}

const invalidDetail = "The response doesn't have the requested format.";
const uncheckedDetail = "The response is too large or too complex to validate against its schema.";

function createFormatFailure(
  { model, models, usage, costUsd }: Extract<RunEnd, { type: "finish" }>,
  isUnchecked: boolean,
): RunEnd {
  const detail = isUnchecked ? uncheckedDetail : invalidDetail;
  const failure = { retryAfterMs: null, status: null, providerCode: null, param: null };
  return { type: "error", ...failure, code: "invalid_output", detail, model, models, usage, costUsd };
}
