import { type AnswerPart, applyPart, applyReasoning, type RunEnd } from "../answer-part.ts";
import type { Resume } from "../attempt/answer.ts";
import { createOutputReader } from "../format/read-output.ts";
import type { AnswerFormat, AnswerOptions, ChatMessage, PushPart } from "../provider.ts";
import { createCostTotal } from "./run-costs.ts";

/** Longest invalid text shown to the model, in UTF-16 units; for a longer one only the problems are sent. */
const SHOWN_CHARS_MAX = 24_000;

/** The fields of a chain request that are read and changed here. */
type FormattedRequest = {
  model: string | null;
  messages: readonly ChatMessage[];
  options?: AnswerOptions;
  resume?: Resume | null;
  hasFallback?: boolean;
  questionAt?: number;
  /** False: what was shown cannot be taken back. */
  isRepairable?: boolean;
};

/**
 * Runs a request whose answer must have a format. An invalid text is returned once to the model that wrote it, with the
 * problems; readers get a `reset` where the new text begins.
 * @throws InvalidSchemaError
 */
export async function runFormatted<Request extends FormattedRequest>(
  run: (request: Request, push: PushPart<AnswerPart>) => Promise<RunEnd>,
  request: Request,
  format: AnswerFormat,
  push: PushPart<AnswerPart>,
): Promise<RunEnd> {
  const read = createOutputReader(format);
  const { resume = null, isRepairable = true, messages, options } = request;
  const total = createCostTotal();
  // Text of earlier steps stays; a broken-off text is dropped.
  const isStep = resume?.step !== undefined && resume.step !== "broken";
  const previousText = resume && isStep ? resume.text : "";
  const previousReasoning = isStep ? (resume?.reasoning ?? "") : "";
  let text = resume?.text ?? "";
  let reasoning = resume?.reasoning ?? "";
  let attempt = resume?.attempt ?? 0;
  const take = (part: AnswerPart): void => {
    text = applyPart(text, part);
    if (part.type !== "text") reasoning = applyReasoning(reasoning, part);
    if (part.type === "start" || part.type === "reset") attempt = part.attempt;
    push(part);
  };

  const start = resume && {
    ...resume,
    text: previousText,
    reasoning: previousReasoning,
    step: resume.step === "next" ? resume.step : ("restarted" as const),
  };
  const first = await run({ ...request, resume: start }, take);
  total.add(first);
  if (first.type !== "finish" || first.toolCalls.length > 0) return first;
  const output = await read(text.slice(previousText.length));
  if (output.type === "valid") return { ...first, output: { value: output.value } };
  // It would be cut off again.
  if (first.reason !== "stop") return first;
  if (output.type === "unknown" || !isRepairable) return fail(first, output.type === "unknown");

  const note: ChatMessage = { role: "user", content: writeRepairNote(output.problems) };
  const written = text.slice(previousText.length);
  const shown: ChatMessage[] = written.length > SHOWN_CHARS_MAX ? [] : [{ role: "assistant", content: written }];
  const repair = {
    ...request,
    model: first.model,
    hasFallback: false,
    messages: [...messages, ...shown, note],
    // The note says nothing without it.
    questionAt: messages.findLastIndex(({ role }) => role === "user"),
    options: { ...options, ...(options?.tools?.length && { toolChoice: "none" as const }) },
    // The reasoning also led to the corrected text.
    resume: { text: previousText, reasoning, attempt, step: "restarted" as const },
  };
  const second = await run(repair, take);
  total.add(second);
  if (second.type === "aborted") return { ...second, ...total.sum() };
  const repaired = second.type === "finish" ? await read(text.slice(previousText.length)) : output;
  const end = { ...(second.type === "finish" ? second : first), ...total.sum() };
  if (second.type === "finish" && repaired.type === "valid") return { ...end, output: { value: repaired.value } };
  if (second.type === "finish" && second.reason !== "stop") return end;
  return fail(end, repaired.type === "unknown");
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

function fail({ model, models, usage, costUsd }: Extract<RunEnd, { type: "finish" }>, isUnchecked: boolean): RunEnd {
  const detail = isUnchecked ? uncheckedDetail : invalidDetail;
  const failure = { retryAfterMs: null, status: null, providerCode: null, param: null };
  return { type: "error", ...failure, code: "invalid_output", detail, model, models, usage, costUsd };
}
