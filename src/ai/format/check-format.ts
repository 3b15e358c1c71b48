import { mapPointerToName } from "../../lib/json.ts";
import { InvalidSchemaError, prepareSchema } from "../../lib/json-schema/prepare-schema.ts";
import { createInvalid, type Problem } from "../../lib/problem.ts";
import type { AnswerFormat } from "../provider.ts";

/** Longest format name that providers accept. */
export const FORMAT_NAME_CHARS_MAX = 64;
export const FORMAT_DESCRIPTION_CHARS_MAX = 1_000;

/**
 * Checks a requested format before anything is stored.
 * @param pointer where its schema is in the request.
 * @throws Problem `invalid`, with the location in the schema.
 */
export function checkAnswerFormat(format: AnswerFormat, pointer: string): void {
  if (format.type !== "json_schema") return;
  try {
    prepareSchema(format.schema);
  } catch (error) {
    if (!(error instanceof InvalidSchemaError)) throw error;
    const place = `${pointer}${error.pointer.slice(1)}`;
    throw createInvalid(place, `${mapPointerToName(place)} ${error.message}.`);
  }
}

/** Creates the error for a model that is known not to support the requested format. */
export const createUnsupportedFormat = (model: string | null, pointer: string): Problem =>
  createInvalid(
    pointer,
    model === null
      ? "No configured model supports this format. Request plain text, or add a model that supports structured output to AI_MODELS."
      : `The model ${model} doesn't support this format. Choose another model, or request plain text.`,
  );
