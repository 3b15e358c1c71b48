import type { ModelFinishReason } from "../../provider.ts";

/** Servers' names for the finish reasons, in lowercase and without separators: `END_TURN` becomes `endturn`. */
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
 * Parses the finish reason. Returns null if the answer isn't finished. Returns `unknown` for reasons that aren't in the table,
 * such as `abort`, which mean that the answer has failed.
 */
export function parseFinishReason(value: unknown): ModelFinishReason | "unknown" | null {
  // Some libraries prepend the type's name: `FinishReason.STOP`, `FINISH_REASON_STOP`.
  const name =
    typeof value === "string"
      ? value
          .slice(value.lastIndexOf(".") + 1)
          .replace(/^finish_reason_/i, "")
          .trim()
      : "";
  if (name === "" || /^(?:null|none|undefined)$/i.test(name)) return null;
  return reasons.get(name.toLowerCase().replace(/[^a-z]/g, "")) ?? "unknown";
}
