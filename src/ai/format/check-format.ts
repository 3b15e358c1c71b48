import { formatPointer } from "../../lib/json.ts";
import { InvalidSchemaError, prepareSchema } from "../../lib/json-schema/prepare-schema.ts";
import { createInvalidProblem, type Problem } from "../../lib/problem.ts";
import type { AnswerFormat } from "../provider.ts";

/** Maximum length of a format name that providers accept. */
export const FORMAT_NAME_CHARS_MAX = 64;
export const FORMAT_DESCRIPTION_CHARS_MAX = 1_000;

/**
 * Validates a requested answer format.
 * @param pointer JSON pointer to the schema in the request.
 * @throws Problem `invalid`, with a pointer into the schema.
 */
export function checkAnswerFormat(format: AnswerFormat, pointer: string): void {
  if (format.type !== "json_schema") return;
  try {
    prepareSchema(format.schema);
  } catch (error) {
    if (!(error instanceof InvalidSchemaError)) throw error;
    const location = `${pointer}${error.pointer.slice(1)}`;
    throw createInvalidProblem(location, `${formatPointer(location)} ${error.message}.`);
  }
}

/** Creates the error for a model that is known not to support the requested format. */
export const createUnsupportedFormatProblem = (model: string | null, pointer: string): Problem =>
  createInvalidProblem(
    pointer,
    model === null
      ? "No configured model supports this format. Request plain text, or add a model that supports structured output to AI_MODELS."
      : `The model ${model} doesn't support this format. Choose a different model, or request plain text.`,
  );
