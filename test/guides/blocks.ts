import { readFileSync } from "node:fs";
import { join } from "node:path";

const root = join(import.meta.dir, "../..");

/** The options after a block's language, which rendered pages don't show. */
type BlockOptions = {
  /** The file that the block is written to instead of being run. */
  file?: string;
  /**
   * The terminal's name: by default `main`, or `server` for background blocks. Output and input use the terminal of the
   * block above.
   */
  terminal: string;
  /** Whether the block keeps running while later blocks are run. */
  isBackground: boolean;
  /** A command, expected output, input for a program, Ctrl+C, or a quoted error message. */
  kind: "run" | "output" | "input" | "interrupt" | "error";
  /** The expected exit status. */
  expectedStatus: number;
  /** Whether the block consists of lines `NAME=value`, which are validated as settings. */
  isSettings: boolean;
  /** The schema in contract/ that a JSON block must match. */
  schema?: string;
};

/** A fenced block. `section` is the `##` heading above it. */
export type Block = BlockOptions & { page: string; section: string; line: number; language: string; text: string };

/** Lists the pages whose blocks are tested. */
export function listPages(): string[] {
  return ["README.md", ...new Bun.Glob("docs/*.md").scanSync(root)].sort();
}

/** Reads the fenced blocks of a page. */
export function readBlocks(page: string): Block[] {
  return parseBlocks(page, readFileSync(join(root, page), "utf8"));
}

/** Parses the fenced blocks of a Markdown document. @throws if a block has an unknown option. */
export function parseBlocks(page: string, markdown: string): Block[] {
  const blocks: Block[] = [];
  for (const match of markdown.matchAll(/^( *)```([^\n]*)\n(.*?)^ *```[ ]*$/gms)) {
    const [, indent = "", info = "", text = ""] = match;
    const [language = "", ...optionList] = info.trim().split(/\s+/);
    const line = markdown.slice(0, match.index).split("\n").length;
    const location = `${page}:${line}`;
    const options = parseOptions(location, optionList);
    const shellBlockAbove = blocks.findLast(({ language }) => language === "sh");
    if (options.kind !== "run") options.terminal ||= shellBlockAbove?.terminal ?? "main";
    options.terminal ||= options.isBackground ? "server" : "main";
    blocks.push({
      ...options,
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

function parseOptions(location: string, optionList: string[]): BlockOptions {
  const options: BlockOptions = {
    terminal: "",
    isBackground: false,
    kind: "run",
    expectedStatus: 0,
    isSettings: false,
  };
  for (const option of optionList) {
    const [name = "", value] = option.split("=");
    if (name === "file" && value) options.file = value;
    else if (name === "terminal" && value) options.terminal = value;
    else if (name === "exit" && value) options.expectedStatus = Number(value);
    else if (name === "schema" && value) options.schema = value;
    else if (option === "background") options.isBackground = true;
    else if (option === "settings") options.isSettings = true;
    else if (option === "output" || option === "input" || option === "interrupt" || option === "error")
      options.kind = option;
    // Another test finds two blocks of docs/rest.md by these options.
    else if (option === "conversation" || option === "message")
      options.schema = option === "message" ? "Message" : "Conversation";
    else throw new Error(`${location}: "${option}" is not an option of a block; see test/guides/run-guide.ts.`);
  }
  return options;
}
