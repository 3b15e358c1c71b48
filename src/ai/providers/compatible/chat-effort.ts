import type { ReasoningEffort } from "../../../protocol/reasoning-effort.ts";

/** Models whose thinking is turned off with `thinking`, as DeepSeek, Moonshot and Z.ai do. */
const switchable = /(?:^|\/)(?:deepseek|kimi|glm)/i;
/** Models whose thinking is turned off with a chat template parameter, on vLLM, SGLang and llama.cpp. */
const templated = /(?:^|\/)qwen/i;

/**
 * Maps the effort to the field that OpenRouter, Groq, vLLM, Ollama and Gemini's endpoint share. If a server rejects a value,
 * a lower one is sent, or none (parameters/).
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
