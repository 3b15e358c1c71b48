import type { AnswerFormat } from "../provider.ts";

/**
 * Writes instructions that describe the required format to the model, for providers that can't enforce it.
 */
export function writeFormatInstructions(format: AnswerFormat): string {
  const rule = "Answer with JSON and nothing else: no text around it, and no code fence.";
  if (format.type === "json_object") return `${rule} The answer is one JSON object.`;
  const { name, description, schema } = format;
  const meaning = description ? ` (${description})` : "";
  return `${rule} The answer is valid for this JSON schema, "${name}"${meaning}:\n${JSON.stringify(schema)}`;
}
