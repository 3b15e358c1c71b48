import type { ReasoningEffort } from "../../../protocol/reasoning-effort.ts";

/** Models of DeepSeek, Moonshot and Z.ai, whose thinking is turned off by the `thinking` field. */
const thinkingFieldModels = /(?:^|\/)(?:deepseek|kimi|glm)/i;
/** Models whose thinking is turned off by a chat template parameter on vLLM, SGLang and llama.cpp. */
const templateParameterModels = /(?:^|\/)qwen/i;

/**
 * Maps the effort to `reasoning_effort`, which OpenRouter, Groq, vLLM, Ollama and Gemini support. If a server rejects a
 * value, the parameter adapter (parameters/adapter.ts) lowers or removes it.
 */
export function mapChatEffort(model: string, effort: ReasoningEffort | null): Record<string, unknown> {
  if (effort === null) return {};
  if (effort !== "none") return { reasoning_effort: effort };
  if (thinkingFieldModels.test(model)) return { thinking: { type: "disabled" } };
  return {
    reasoning_effort: effort,
    ...(templateParameterModels.test(model) && { chat_template_kwargs: { enable_thinking: false } }),
  };
}
