import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createMarkdownTable } from "./markdown-table.ts";
import { placeMarkedPart } from "./marked-part.ts";

const src = join(import.meta.dir, "../src");

/** A limit that the sources name, with the comment above it. */
type NamedLimit = { name: string; value: string; unit: string; effect: string; file: string };

/** The name of a limit says what it counts. */
const units: readonly [RegExp, string][] = [
  [/_BYTES_/, "bytes"],
  [/_(?:CHARS|LENGTH)_/, "UTF-16 units"],
  [/_TOKENS_/, "tokens"],
  [/_MS_/, "ms"],
  [/_S_/, "s"],
];

const declaration = /^\/\*\* ([^\n]*?) ?\*\/\n(?:export )?const ([A-Z][A-Z0-9_]*_MAX) = ([\d_ *+.e]+);/gm;

/** Puts the table of all fixed limits between its marks. @throws when they are missing. */
export const placeLimitTable = (markdown: string): string =>
  placeMarkedPart(
    markdown,
    "fixed-limits",
    createMarkdownTable(
      ["limit", "value", "unit", "effect", "file"],
      listLimits().map(({ name, value, unit, effect, file }) => [`\`${name}\``, value, unit, effect, `\`${file}\``]),
    ),
  );

function listLimits(): NamedLimit[] {
  const files = [...new Bun.Glob("**/*.ts").scanSync(src)].sort();
  return files.flatMap((file) =>
    [...readFileSync(join(src, file), "utf8").matchAll(declaration)].map(([, effect = "", name = "", value = ""]) => ({
      name,
      value: evaluate(value).toLocaleString("en"),
      unit: units.find(([end]) => end.test(name))?.[1] ?? "",
      effect,
      file: `src/${file}`,
    })),
  );
}

/** Numbers, products and sums. */
const evaluate = (expression: string): number =>
  expression
    .replaceAll("_", "")
    .split("+")
    .map((product) => product.split("*").reduce((result, factor) => result * Number(factor), 1))
    .reduce((sum, part) => sum + part, 0);
