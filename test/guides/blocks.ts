import { readFileSync } from "node:fs";
import { join } from "node:path";

const root = join(import.meta.dir, "../..");

/** The words after a block's language. Rendered pages don't show them. */
type Words = {
  /** Write the block into this file instead of running it. */
  file?: string;
  /** Which terminal: `main`, or `server` for what runs in the background; of output and input: that of the block above. */
  terminal: string;
  /** Keeps running while the page goes on. */
  background: boolean;
  /** What the terminal shows now, what is typed into its program, Ctrl+C, or a quoted message. */
  kind: "run" | "output" | "input" | "interrupt" | "error";
  /** The status that the block ends with, if it isn't 0. */
  exit: number;
  /** `settings`: lines `NAME=value`, checked as a configuration. */
  isSettings: boolean;
  /** A schema of contract/, for JSON: `schema=Message`. */
  schema?: string;
};

/** `section` is the heading (`##`) that it is under. */
export type Block = Words & { page: string; section: string; line: number; language: string; text: string };

/** All pages whose blocks are covered. */
export function listPages(): string[] {
  return ["README.md", ...new Bun.Glob("docs/*.md").scanSync(root)].sort();
}

/** The fenced blocks of a page, in order. */
export function readBlocks(page: string): Block[] {
  return parseBlocks(page, readFileSync(join(root, page), "utf8"));
}

/** The fenced blocks of a text. @throws Error for a word after the language that has no meaning. */
export function parseBlocks(page: string, markdown: string): Block[] {
  const blocks: Block[] = [];
  for (const match of markdown.matchAll(/^( *)```([^\n]*)\n(.*?)^ *```[ ]*$/gms)) {
    const [, indent = "", info = "", text = ""] = match;
    const [language = "", ...list] = info.trim().split(/\s+/);
    const line = markdown.slice(0, match.index).split("\n").length;
    const place = `${page}:${line}`;
    const words = readWords(place, list);
    const above = blocks.findLast(({ language }) => language === "sh");
    if (words.kind !== "run") words.terminal ||= above?.terminal ?? "main";
    words.terminal ||= words.background ? "server" : "main";
    blocks.push({
      ...words,
      page,
      section:
        markdown
          .slice(0, match.index)
          .match(/^## .*$/gm)
          ?.at(-1)
          ?.slice(3) ?? "",
      line,
      language,
      text: text.replaceAll(new RegExp(`^${indent}`, "gm"), ""),
    });
  }
  return blocks;
}

function readWords(place: string, list: string[]): Words {
  const words: Words = { terminal: "", background: false, kind: "run", exit: 0, isSettings: false };
  for (const word of list) {
    const [name = "", value] = word.split("=");
    if (name === "file" && value) words.file = value;
    else if (name === "terminal" && value) words.terminal = value;
    else if (name === "exit" && value) words.exit = Number(value);
    else if (name === "schema" && value) words.schema = value;
    else if (word === "background") words.background = true;
    else if (word === "settings") words.isSettings = true;
    else if (word === "output" || word === "input" || word === "interrupt" || word === "error") words.kind = word;
    // Two blocks of docs/rest.md are found by these by another test.
    else if (word === "conversation" || word === "message")
      words.schema = word === "message" ? "Message" : "Conversation";
    else throw new Error(`${place}: "${word}" has no meaning after a block's language; see test/guides/run-guide.ts.`);
  }
  return words;
}
