import type { MessageCreateParamsStreaming } from "@anthropic-ai/sdk/resources/messages/messages";
import type { ReasoningEffort } from "../../../protocol/reasoning-effort.ts";

/** The API's minimum thinking budget. */
const BUDGET_TOKENS_MIN = 1_024;
/** Share of the maximum answer length, in which thinking counts; the rest stays for the text. */
const BUDGET_SHARE_MAX = 0.8;

const budgets: Record<Exclude<ReasoningEffort, "none">, number> = {
  minimal: BUDGET_TOKENS_MIN,
  low: 2_048,
  medium: 8_192,
  high: 16_384,
  xhigh: 32_768,
};

/** How to control a Claude model's thinking (platform.claude.com/docs/en/build-with-claude/thinking, November 2026). */
type Style = {
  /** `budget`: a number of tokens, up to Claude 4.5. `adaptive`: `output_config.effort`. `never`: no thinking. */
  kind: "adaptive" | "budget" | "never";
  /** How to turn thinking off. `unset`: omit the field; null: impossible. */
  off: "unset" | "disabled" | "between_tools" | null;
  hasXhigh: boolean;
  /** Whether it thinks by default. */
  isOn?: boolean;
};

const namePattern = /claude-(?:([a-z]+)-(\d+)(?:[-.](\d{1,2}))?(?!\d)|3[-.]7)/;

function findStyle(model: string): Style {
  const [name = "", family = "", major = "", minor = "0"] = namePattern.exec(model) ?? [];
  if (/3[-.]7/.test(name)) return { kind: "budget", off: "unset", hasXhigh: true };
  if (/claude-(?:instant|2|3)/.test(model)) return { kind: "never", off: "unset", hasXhigh: false };
  // Unknown names count as new models.
  const version = major === "" ? 5.5 : Number(major) + Number(minor) / 10;
  if (version < 4.6) return { kind: "budget", off: "unset", hasXhigh: true };
  if (version < 5) return { kind: "adaptive", off: "unset", hasXhigh: version >= 4.7 };
  return { kind: "adaptive", off: findOff(family, version), hasXhigh: true, isOn: major !== "" };
}

/** Claude 5 thinks by default, and some of its models always do. */
function findOff(family: string, version: number): Style["off"] {
  if (family === "haiku") return "disabled";
  if (family === "sonnet") return version >= 5.5 ? "between_tools" : "disabled";
  return family === "opus" && version < 5.5 ? "disabled" : null;
}

/** Conditions that affect thinking. */
type EffortContext = {
  /** Whether the model should report its reasoning. */
  isAsked: boolean;
  maxTokens: number;
  /** The API rejects a budget together with a forced call. */
  isCallForced: boolean;
  /** Whether the turns of this tool loop contain the thinking that a budget requires. */
  isLoopThinking: boolean;
};

type ThinkingConfig = Pick<MessageCreateParamsStreaming, "thinking" | "output_config">;

/** Returns the fields that control how much a model thinks; none to keep the model's default. */
export function mapEffort(model: string, effort: ReasoningEffort | null, context: EffortContext): ThinkingConfig {
  const { kind, off, hasXhigh, isOn } = findStyle(model);
  // New models report no reasoning unless a summary is requested.
  const adaptive = {
    type: "adaptive" as const,
    display: context.isAsked ? ("summarized" as const) : ("omitted" as const),
  };
  if (effort === null) return isOn && context.isAsked ? { thinking: adaptive } : {};
  if (kind === "never") return {};
  if (effort === "none") {
    if (off === "unset") return {};
    return off === null ? { output_config: { effort: "low" } } : { thinking: { type: off } };
  }
  if (kind === "adaptive") {
    const least = effort === "minimal" ? "low" : effort;
    return {
      thinking: adaptive,
      output_config: { effort: least === "xhigh" && !hasXhigh ? "high" : least },
    };
  }
  const budget = Math.min(budgets[effort], Math.floor(context.maxTokens * BUDGET_SHARE_MAX));
  if (context.isCallForced || !context.isLoopThinking || budget < BUDGET_TOKENS_MIN) return {};
  return { thinking: { type: "enabled", budget_tokens: budget } };
}

/**
 * Whether a model accepts its thinking blocks back. Budget models reject them while thinking is off; the others decide
 * themselves what they use.
 */
export const takesBlocks = (model: string, { thinking }: ThinkingConfig): boolean =>
  findStyle(model).kind === "adaptive" || thinking?.type === "enabled";
