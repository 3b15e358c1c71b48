import type { MessageCreateParamsStreaming } from "@anthropic-ai/sdk/resources/messages/messages";
import type { ReasoningEffort } from "../../../protocol/reasoning-effort.ts";

/** Fewest tokens that the API takes as a budget. */
const BUDGET_TOKENS_MIN = 1_024;
/** Of the longest answer, in which thinking counts: the rest stays for the text. */
const BUDGET_SHARE_MAX = 0.8;

const budgets: Record<Exclude<ReasoningEffort, "none">, number> = {
  minimal: BUDGET_TOKENS_MIN,
  low: 2_048,
  medium: 8_192,
  high: 16_384,
  xhigh: 32_768,
};

/** How a Claude model is told to think (platform.claude.com/docs/en/build-with-claude/thinking, November 2026). */
type Style = {
  /** `budget`: by a number of tokens, up to Claude 4.5. `adaptive`: by `output_config.effort`. `never`: it cannot think. */
  kind: "adaptive" | "budget" | "never";
  /** What stops it from thinking: `unset` leaves the field out; null: nothing does. */
  off: "unset" | "disabled" | "between_tools" | null;
  hasXhigh: boolean;
};

const namePattern = /claude-(?:([a-z]+)-(\d+)(?:[-.](\d{1,2}))?(?!\d)|3[-.]7)/;

function findStyle(model: string): Style {
  const [name = "", family = "", major = "", minor = "0"] = namePattern.exec(model) ?? [];
  if (/3[-.]7/.test(name)) return { kind: "budget", off: "unset", hasXhigh: true };
  if (/claude-(?:instant|2|3)/.test(model)) return { kind: "never", off: "unset", hasXhigh: false };
  // What we don't know is taken for a new model.
  const version = major === "" ? 5.5 : Number(major) + Number(minor) / 10;
  if (version < 4.6) return { kind: "budget", off: "unset", hasXhigh: true };
  if (version < 5) return { kind: "adaptive", off: "unset", hasXhigh: version >= 4.7 };
  return { kind: "adaptive", off: findOff(family, version), hasXhigh: true };
}

/** Claude 5 thinks unless told otherwise, and some of its models always do. */
function findOff(family: string, version: number): Style["off"] {
  if (family === "haiku") return "disabled";
  if (family === "sonnet") return version >= 5.5 ? "between_tools" : "disabled";
  return family === "opus" && version < 5.5 ? "disabled" : null;
}

/** What may stand in the way of thinking. */
type Circumstances = {
  maxTokens: number;
  /** The API refuses a budget together with a forced call. */
  isCallForced: boolean;
  /** Whether the turns of this loop have the thinking that a budget asks for. */
  isLoopThinking: boolean;
};

type ThinkingConfig = Pick<MessageCreateParamsStreaming, "thinking" | "output_config">;

/** The fields of a request that say how much a model thinks; none where its own default is to hold. */
export function mapEffort(model: string, effort: ReasoningEffort | null, around: Circumstances): ThinkingConfig {
  if (effort === null) return {};
  const { kind, off, hasXhigh } = findStyle(model);
  if (kind === "never") return {};
  if (effort === "none") {
    if (off === "unset") return {};
    return off === null ? { output_config: { effort: "low" } } : { thinking: { type: off } };
  }
  if (kind === "adaptive") {
    const least = effort === "minimal" ? "low" : effort;
    return {
      thinking: { type: "adaptive", display: "summarized" },
      output_config: { effort: least === "xhigh" && !hasXhigh ? "high" : least },
    };
  }
  const budget = Math.min(budgets[effort], Math.floor(around.maxTokens * BUDGET_SHARE_MAX));
  if (around.isCallForced || !around.isLoopThinking || budget < BUDGET_TOKENS_MIN) return {};
  return { thinking: { type: "enabled", budget_tokens: budget } };
}

/**
 * Whether a model may be given the blocks of its thinking. One that thinks by a budget refuses them while its thinking is
 * off; the others decide by themselves what they use.
 */
export const takesBlocks = (model: string, { thinking }: ThinkingConfig): boolean =>
  findStyle(model).kind === "adaptive" || thinking?.type === "enabled";
