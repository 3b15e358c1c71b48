import { setDefaultTimeout, test } from "bun:test";
import { readBlocks } from "./blocks.ts";
import { runBlocks, startsServer } from "./run-guide.ts";

setDefaultTimeout(180_000);

/** The pages to read after the README, in order. Each must work with the previous page's server, folder and accounts. */
const nextPages = ["getting-started", "group-chat", "rest", "prompts", "administration"].map(
  (name) => `docs/${name}.md`,
);

test("the guides run one after another in the same folder", () => {
  const nextBlocks = nextPages.flatMap((page) => readBlocks(page).filter((block) => !startsServer(block)));
  return runBlocks([...readBlocks("README.md"), ...nextBlocks]);
});
