import type { ReasoningEffort } from "../../../protocol/reasoning-effort.ts";

/** Models whose servers stop them from thinking by `thinking`, as DeepSeek, Moonshot and Z.ai do. */
const switchable = /(?:^|\/)(?:deepseek|kimi|glm)/i;
/** Models that a parameter of their chat template stops, on vLLM, SGLang and llama.cpp. */
const templated = /(?:^|\/)qwen/i;

/**
 * How much a model thinks, by the field that OpenRouter, Groq, vLLM, Ollama and Gemini's endpoint have in common. A value
 * that a server refuses is made lower, or left out (parameters/).
 */
export function mapChatEffort(model: string, effort: ReasoningEffort | null): Record<string, unknown> {
  if (effort === null) return {};
  if (effort !== "none") return { reasoning_effort: effort };
  if (switchable.test(model)) return { thinking: { type: "disabled" } };
  return {
    reasoning_effort: effort,
    ...(templated.test(model) && { chat_template_kwargs: { enable_thinking: false } }),
  };
}
