import { setDefaultTimeout, test } from "bun:test";
import { readBlocks } from "./blocks.ts";
import { runBlocks, startsServer } from "./run-guide.ts";

setDefaultTimeout(180_000);

/** The pages that a new user opens next: each has to work with the running server, the folder and the accounts of the page before. */
const nextPages = ["getting-started", "group-chat", "rest", "prompts", "administration"].map(
  (name) => `docs/${name}.md`,
);

test("the guides work one after the other, in the same folder", () => {
  const next = nextPages.flatMap((page) => readBlocks(page).filter((block) => !startsServer(block)));
  return runBlocks([...readBlocks("README.md"), ...next]);
});
