import { isBareError, isErrorValue } from "../../error-fields.ts";
import { asFields, type Fields } from "../read-fields.ts";

/**
 * Returns the error in a chunk, or null if there is none. The error may be the chunk itself, its choice or Groq's `x_groq`
 * field.
 */
export function findChunkError(chunk: Fields, choice: Fields): Fields | null {
  if (isErrorValue(chunk)) return chunk;
  if (choice.error && isErrorValue(choice)) return choice;
  const groq = asFields(chunk.x_groq);
  if (groq.error && isErrorValue(groq)) return groq;
  return chunk.choices === undefined && isBareError(chunk) ? chunk : null;
}
