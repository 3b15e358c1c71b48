import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createMarkdownTable } from "./markdown-table.ts";
import { replaceMarkedSection } from "./marked-section.ts";

const srcFolder = join(import.meta.dir, "../src");

/** A constant in src/ whose name ends with `_MAX`, with its doc comment. */
type NamedLimit = { name: string; value: string; unit: string; effect: string; file: string };

/** Units of limits, by a part of their names. */
const unitPatterns: readonly [RegExp, string][] = [
  [/_BYTES_/, "bytes"],
  [/_(?:CHARS|LENGTH)_/, "UTF-16 code units"],
  [/_CODE_POINTS_/, "code points"],
  [/_TOKENS_/, "tokens"],
  [/_MS_/, "ms"],
  [/_S_/, "s"],
];

const LIMIT_DECLARATION = /^\/\*\* ([^\n]*?) ?\*\/\n(?:export )?const ([A-Z][A-Z0-9_]*_MAX) = ([\d_ *+.e]+);/gm;

/** Inserts the table of all fixed limits between its markers. @throws if the markers are missing. */
export const insertLimitTable = (markdown: string): string =>
  replaceMarkedSection(
    markdown,
    "fixed-limits",
    createMarkdownTable(
      ["limit", "value", "unit", "effect", "file"],
      listLimits().map(({ name, value, unit, effect, file }) => [`\`${name}\``, value, unit, effect, `\`${file}\``]),
    ),
  );

function listLimits(): NamedLimit[] {
  const files = [...new Bun.Glob("**/*.ts").scanSync(srcFolder)].sort();
  return files.flatMap((file) =>
    [...readFileSync(join(srcFolder, file), "utf8").matchAll(LIMIT_DECLARATION)].map(
      ([, effect = "", name = "", value = ""]) => ({
        name,
        value: evaluateExpression(value).toLocaleString("en"),
        unit: unitPatterns.find(([pattern]) => pattern.test(name))?.[1] ?? "",
        effect,
        file: `src/${file}`,
      }),
    ),
  );
}

/** Evaluates a number, a product, or a sum of products. */
const evaluateExpression = (expression: string): number =>
  expression
    .replaceAll("_", "")
    .split("+")
    .map((product) => product.split("*").reduce((result, factor) => result * Number(factor), 1))
    .reduce((sum, part) => sum + part, 0);
