/** Values of common units, in the unit of the setting's suffix. */
const durationFactors = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };
const byteFactors = { b: 1, k: 1_024, m: 1_024 ** 2, g: 1_024 ** 3, t: 1_024 ** 4 };
const dayFactors = { d: 1, w: 7, y: 365 };
const countFactors = { k: 1_000, m: 1_000_000 };

const numberWithUnit = /^([\d][\d_ ,.']*)\s*([a-zµ]*)$/i;

/** Guesses which number a string with a unit, separators or a comment means. Returns null if the number is unclear. */
export function suggestNumber(name: string, text: string, isInteger: boolean): number | null {
  const withoutComment = text.replace(/\s+#.*$/, "").trim();
  const isUsd = name.includes("_USD_");
  const withoutCurrency = isUsd
    ? withoutComment.replace(/^(?:us)?\$\s*|\s*(?:usd|dollars?|\$)$/gi, "")
    : withoutComment;
  const [, digits, unit = ""] = numberWithUnit.exec(withoutCurrency) ?? [];
  if (digits === undefined) return null;
  const number = parseDigits(digits.trim());
  const factor = unit === "" ? 1 : findFactor(name, unit.toLowerCase());
  if (number === null || factor === undefined) return null;
  const value = number * factor;
  return isInteger && !Number.isInteger(value) ? null : value;
}

function parseDigits(text: string): number | null {
  // `10,000` and `10.000` have a thousands separator, `2,5` and `2.5` a decimal separator.
  const plain = /^\d{1,3}(?:[,.]\d{3})+$/.test(text)
    ? text.replaceAll(/[,.]/g, "")
    : text.replaceAll(/[_ ']/g, "").replace(",", ".");
  return /^\d+(?:\.\d+)?$/.test(plain) ? Number(plain) : null;
}

function findFactor(name: string, unit: string): number | undefined {
  const table: Record<string, number> = name.endsWith("_MS")
    ? durationFactors
    : /_BYTES(?:_|$)/.test(name)
      ? byteFactors
      : name.endsWith("_DAYS")
        ? dayFactors
        : countFactors;
  if (name.endsWith("_MS") && /^(?:ms|msecs?|millis|milliseconds?)$/.test(unit)) return 1;
  if (table === byteFactors) return /^(?:[kmgt]?(?:i?b)?|bytes?)$/.test(unit) ? table[unit[0] ?? "b"] : undefined;
  const unitPattern = /^(?:s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?|w|weeks?|y|years?|k)$/;
  return unitPattern.test(unit) ? table[unit[0] ?? ""] : undefined;
}
