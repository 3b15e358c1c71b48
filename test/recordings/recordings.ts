import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

const folder = join(import.meta.dir, "../support/recordings");

type Provider = "openai" | "anthropic" | "compatible";

/** A recorded answer, and the expected results. Recordings are named after their provider. */
export type Recording = {
  name: string;
  provider: Provider;
  body: string;
  text: string;
  finish: "stop" | "length" | "tool_calls" | "error";
  /** The input tokens, including cached ones, and the output tokens, including reasoning. Null if the answer fails before they are reported. */
  usage: [number, number] | null;
};

/** The tool call of every recording with `finish: "tool_calls"`. */
export const EXPECTED_CALL = { name: "get_weather", arguments: { location: "Paris, France" } };

const expectedResults: Record<string, Pick<Recording, "text" | "finish" | "usage">> = {
  "openai-responses-text": { text: "Hi there! How can I assist you today?", finish: "stop", usage: [37, 11] },
  "openai-responses-reasoning": { text: "9.9 is larger: 9.90 > 9.11.", finish: "stop", usage: [24, 206] },
  "openai-responses-function-call": { text: "", finish: "tool_calls", usage: [69, 17] },
  "openai-responses-incomplete": { text: "Once upon a time, in a village", finish: "length", usage: [14, 8] },
  "openai-responses-failed": { text: "The sky is", finish: "error", usage: null },
  "openai-chat-text": { text: "Hello! How can I help?", finish: "stop", usage: [19, 8] },
  "openai-chat-tool-call": { text: "", finish: "tool_calls", usage: [54, 17] },
  "anthropic-text": { text: "Hello! How can I help you today?", finish: "stop", usage: [12 + 256 + 2048, 12] },
  "anthropic-thinking": {
    text: "The greatest common divisor of 1071 and 462 is **21**.",
    finish: "stop",
    usage: [45, 120],
  },
  "anthropic-tool-use": { text: "Okay, let's check the weather.", finish: "tool_calls", usage: [472, 89] },
  "anthropic-max-tokens": { text: "Once upon a time, in", finish: "length", usage: [10, 6] },
  "anthropic-overloaded": { text: "The sky is", finish: "error", usage: null },
  "ollama-text": { text: "Hello! How can I help you today? 😊", finish: "stop", usage: [11, 97] },
  "ollama-tool-call": { text: "", finish: "tool_calls", usage: [156, 22] },
  "vllm-text": { text: "\n\nThe capital of France is Paris.", finish: "stop", usage: [15, 14] },
  "vllm-error": { text: "The sky is", finish: "error", usage: null },
  "llama-cpp-text": { text: "Hello! What can I do for you?", finish: "stop", usage: [68, 17] },
  "llama-cpp-length": { text: "One, two,", finish: "length", usage: [12, 4] },
  "openrouter-text": { text: "Bonjour !", finish: "stop", usage: [9, 4] },
};

const findProvider = (name: string): Provider => {
  if (name.startsWith("anthropic-")) return "anthropic";
  return name.startsWith("openai-responses-") ? "openai" : "compatible";
};

/** Lists all recordings, and throws an error if a recording has no expectation or no file. */
export function listRecordings(): Recording[] {
  const names = readdirSync(folder).flatMap((file) => (file.endsWith(".sse") ? [file.slice(0, -4)] : []));
  const unmatchedNames = new Set(names).symmetricDifference(new Set(Object.keys(expectedResults)));
  if (unmatchedNames.size > 0) throw new Error(`Recordings without an expectation or a file: ${[...unmatchedNames]}.`);
  return names.sort().map((name) => {
    const { text, finish, usage } = expectedResults[name] as (typeof expectedResults)[string];
    const body = readFileSync(join(folder, `${name}.sse`), "utf8");
    return { name, provider: findProvider(name), body, text, finish, usage };
  });
}
