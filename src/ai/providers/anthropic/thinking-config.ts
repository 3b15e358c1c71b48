import type { MessageCreateParamsStreaming } from "@anthropic-ai/sdk/resources/messages/messages";
import type { ReasoningEffort } from "../../../protocol/reasoning-effort.ts";

/** The API's minimum thinking budget. */
const BUDGET_TOKENS_MIN = 1_024;
/** Maximum share of the answer's tokens that thinking may use. The remaining tokens are left for the text. */
const BUDGET_SHARE_MAX = 0.8;

const effortBudgets: Record<Exclude<ReasoningEffort, "none">, number> = {
  minimal: BUDGET_TOKENS_MIN,
  low: 2_048,
  medium: 8_192,
  high: 16_384,
  xhigh: 32_768,
};

/** The thinking options of a Claude model (platform.claude.com/docs/en/build-with-claude/thinking, November 2026). */
type ThinkingStyle = {
  /** `budget` models, up to Claude 4.5, accept a number of tokens. `adaptive` models accept `output_config.effort`. */
  kind: "adaptive" | "budget" | "never";
  /** The `thinking` value that turns thinking off. `unset` means no value. Null if thinking can't be turned off. */
  offValue: "unset" | "disabled" | "between_tools" | null;
  hasXhigh: boolean;
  thinksByDefault?: boolean;
};

const namePattern = /claude-(?:([a-z]+)-(\d+)(?:[-.](\d{1,2}))?(?!\d)|3[-.]7)/;

function findThinkingStyle(model: string): ThinkingStyle {
  const [name = "", family = "", major = "", minor = "0"] = namePattern.exec(model) ?? [];
  if (/3[-.]7/.test(name)) return { kind: "budget", offValue: "unset", hasXhigh: true };
  if (/claude-(?:instant|2|3)/.test(model)) return { kind: "never", offValue: "unset", hasXhigh: false };
  // Unknown names are assumed to be new models.
  const version = major === "" ? 5.5 : Number(major) + Number(minor) / 10;
  if (version < 4.6) return { kind: "budget", offValue: "unset", hasXhigh: true };
  if (version < 5) return { kind: "adaptive", offValue: "unset", hasXhigh: version >= 4.7 };
  return { kind: "adaptive", offValue: findOffValue(family, version), hasXhigh: true, thinksByDefault: major !== "" };
}

/** Returns the `thinking` value that turns a Claude 5 model's thinking off, or null if it can't be turned off. */
function findOffValue(family: string, version: number): ThinkingStyle["offValue"] {
  if (family === "haiku") return "disabled";
  if (family === "sonnet") return version >= 5.5 ? "between_tools" : "disabled";
  return family === "opus" && version < 5.5 ? "disabled" : null;
}

type EffortContext = {
  /** Whether reasoning is requested from the model. */
  isReasoningRequested: boolean;
  maxTokens: number;
  /** Whether a tool call is required. The API then rejects a budget. */
  isCallForced: boolean;
  /** Whether the current tool loop began with thinking, which the API requires if there is a budget. */
  hasLoopThinking: boolean;
};

type ThinkingConfig = Pick<MessageCreateParamsStreaming, "thinking" | "output_config">;

/** Returns the fields that control how much a model thinks. If there are none, the model's default applies. */
export function mapEffort(model: string, effort: ReasoningEffort | null, context: EffortContext): ThinkingConfig {
  const { kind, offValue, hasXhigh, thinksByDefault } = findThinkingStyle(model);
  // Adaptive models send no reasoning unless a summary is requested.
  const adaptiveThinking = {
    type: "adaptive" as const,
    display: context.isReasoningRequested ? ("summarized" as const) : ("omitted" as const),
  };
  if (effort === null) return thinksByDefault && context.isReasoningRequested ? { thinking: adaptiveThinking } : {};
  if (kind === "never") return {};
  if (effort === "none") {
    if (offValue === "unset") return {};
    return offValue === null ? { output_config: { effort: "low" } } : { thinking: { type: offValue } };
  }
  if (kind === "adaptive") {
    const effectiveEffort = effort === "minimal" ? "low" : effort;
    return {
      thinking: adaptiveThinking,
      output_config: { effort: effectiveEffort === "xhigh" && !hasXhigh ? "high" : effectiveEffort },
    };
  }
  const budget = Math.min(effortBudgets[effort], Math.floor(context.maxTokens * BUDGET_SHARE_MAX));
  if (context.isCallForced || !context.hasLoopThinking || budget < BUDGET_TOKENS_MIN) return {};
  return { thinking: { type: "enabled", budget_tokens: budget } };
}

/**
 * Whether a request to a model may contain its thinking blocks. Budget models reject them while thinking is off.
 */
export const acceptsThinkingBlocks = (model: string, { thinking }: ThinkingConfig): boolean =>
  findThinkingStyle(model).kind === "adaptive" || thinking?.type === "enabled";
