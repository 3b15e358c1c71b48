import { isBareError, isErrorValue } from "../../error-fields.ts";
import { type Fields, readFields } from "../read-fields.ts";

/**
 * Returns the failure in a stream that started well: the chunk with its `error`, its choice, Groq's own fields, or a chunk
 * that isn't a completion. Null: no failure.
 */
export function findFailure(chunk: Fields, choice: Fields): Fields | null {
  if (isErrorValue(chunk)) return chunk;
  if (choice.error && isErrorValue(choice)) return choice;
  const groq = readFields(chunk.x_groq);
  if (groq.error && isErrorValue(groq)) return groq;
  return chunk.choices === undefined && isBareError(chunk) ? chunk : null;
}
