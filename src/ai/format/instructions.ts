import type { AnswerFormat } from "../provider.ts";

/**
 * Tells a model in words which form its answer must have, where its provider cannot force it into one.
 * @param format the form; of a schema the model is shown all.
 */
export function writeFormatInstructions(format: AnswerFormat): string {
  const rule = "Answer with JSON and nothing else: no text around it, and no code fence.";
  if (format.type === "json_object") return `${rule} The answer is one JSON object.`;
  const { name, description, schema } = format;
  const meaning = description ? ` (${description})` : "";
  return `${rule} The answer is valid for this JSON schema, "${name}"${meaning}:\n${JSON.stringify(schema)}`;
}
