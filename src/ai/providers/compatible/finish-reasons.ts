import type { ModelFinishReason } from "../../provider.ts";

/** Servers' names for finish reasons, reduced to letters: `end_turn`, `EndTurn` and `END_TURN` are the same. */
const synonyms: Record<ModelFinishReason, string> = {
  stop: "stop stopsequence stopword stopstring stoptoken stopped eos eostoken eot endturn endoftext end complete completed done finish finished normal",
  length:
    "length lengthcapped lengthlimit maxlength maxtokens maxtoken maxnewtokens maxoutputtokens maxcompletiontokens tokenlimit modellength modelcontextwindowexceeded",
  tool_calls: "toolcalls toolcall tooluse functioncall functioncalls",
  content_filter:
    "contentfilter contentfiltered safety recitation blocklist prohibitedcontent spii sensitive imagesafety guardrailintervened refusal errortoxic",
};

const reasons = new Map(
  (Object.keys(synonyms) as ModelFinishReason[]).flatMap((reason) =>
    synonyms[reason].split(" ").map((synonym) => [synonym, reason] as const),
  ),
);

/**
 * Reads the finish reason. Null: not finished yet. `unknown`: not in the table, such as `insufficient_system_resource`,
 * `abort` or `error`; such an answer has failed.
 */
export function readFinishReason(value: unknown): ModelFinishReason | "unknown" | null {
  // Some libraries print the type name before it: `FinishReason.STOP`, `FINISH_REASON_STOP`.
  const word =
    typeof value === "string"
      ? value
          .slice(value.lastIndexOf(".") + 1)
          .replace(/^finish_reason_/i, "")
          .trim()
      : "";
  if (word === "" || /^(?:null|none|undefined)$/i.test(word)) return null;
  return reasons.get(word.toLowerCase().replace(/[^a-z]/g, "")) ?? "unknown";
}
