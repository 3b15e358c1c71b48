/** How much each common unit name means, in the unit of the setting's suffix. */
const times = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };
const bytes = { b: 1, k: 1_024, m: 1_024 ** 2, g: 1_024 ** 3, t: 1_024 ** 4 };
const days = { d: 1, w: 7, y: 365 };
const counts = { k: 1_000, m: 1_000_000 };

const numberWithUnit = /^([\d][\d_ ,.']*)\s*([a-zµ]*)$/i;

/** Returns the number most likely meant by a string with a unit, separators or a comment; null if unclear. */
export function suggestNumber(name: string, text: string, isWhole: boolean): number | null {
  const plain = text.replace(/\s+#.*$/, "").trim();
  const isUsd = name.includes("_USD_");
  const bare = isUsd ? plain.replace(/^(?:us)?\$\s*|\s*(?:usd|dollars?|\$)$/gi, "") : plain;
  const [, digits, unit = ""] = numberWithUnit.exec(bare) ?? [];
  if (digits === undefined) return null;
  const number = readDigits(digits.trim());
  const factor = unit === "" ? 1 : findFactor(name, unit.toLowerCase());
  if (number === null || factor === undefined) return null;
  const value = number * factor;
  return isWhole && !Number.isInteger(value) ? null : value;
}

function readDigits(text: string): number | null {
  // `10,000` and `10.000` are thousands; `2,5` and `2.5` are not.
  const plain = /^\d{1,3}(?:[,.]\d{3})+$/.test(text)
    ? text.replaceAll(/[,.]/g, "")
    : text.replaceAll(/[_ ']/g, "").replace(",", ".");
  return /^\d+(?:\.\d+)?$/.test(plain) ? Number(plain) : null;
}

function findFactor(name: string, unit: string): number | undefined {
  const table: Record<string, number> = name.endsWith("_MS")
    ? times
    : /_BYTES(?:_|$)/.test(name)
      ? bytes
      : name.endsWith("_DAYS")
        ? days
        : counts;
  if (name.endsWith("_MS") && /^(?:ms|msecs?|millis|milliseconds?)$/.test(unit)) return 1;
  if (table === bytes) return /^(?:[kmgt]?(?:i?b)?|bytes?)$/.test(unit) ? table[unit[0] ?? "b"] : undefined;
  const words = /^(?:s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?|w|weeks?|y|years?|k)$/;
  return words.test(unit) ? table[unit[0] ?? ""] : undefined;
}
