import type { ChatMessage } from "../../ai/provider.ts";
import { countMessage, countMessages } from "../../ai/tokens.ts";
import type { HistoryRow } from "./context-queries.ts";
import { CHARS_PER_TOKEN_MAX, cutText, SUMMARY_SHARE, writeSummary } from "./context-texts.ts";

/** Messages that a model is shown at most, however short they are. */
export const HISTORY_MESSAGES_MAX = 1_000;

type History = {
  newestFirst: ChatMessage[];
  /** What stands for the messages before them; none, or one. */
  summary: ChatMessage[];
  /** Estimated, of all of them. */
  tokens: number;
  /** Messages that did not fit, and are in no summary. */
  isCut: boolean;
};

/**
 * What a model is shown of a path (path.ts): the newest messages that fit, and the summary of those before them. No more of
 * the path is read than that.
 */
export async function collectHistory(path: AsyncIterable<HistoryRow[]>, tokensMax: number): Promise<History> {
  const newestFirst: ChatMessage[] = [];
  let tokens = 0;
  let chars = 0;
  for await (const rows of path)
    for (const [index, { role, content, author_name, summary }] of rows.entries()) {
      if (summary && newestFirst.length > 0)
        return addSummary({ newestFirst, tokens, isCut: false }, summary.content, tokensMax);
      if (content === null) continue;
      const message = mapToChatMessage(role, content, author_name);
      chars += content.length;
      const count = countMessage(message);
      const isTooMuch = tokens + count > tokensMax || chars > tokensMax * CHARS_PER_TOKEN_MAX;
      // The message that is answered is always shown, however long it is.
      if (newestFirst.length > 0 && (isTooMuch || newestFirst.length >= HISTORY_MESSAGES_MAX)) {
        // Better than nothing of what was said before, even if some messages between are in neither.
        const older = rows.slice(index).find((row) => row.summary)?.summary;
        return addSummary({ newestFirst, tokens, isCut: true }, older?.content, tokensMax);
      }
      tokens += count;
      newestFirst.push(message);
    }
  return { newestFirst, summary: [], tokens, isCut: false };
}

/**
 * With a summary, and without the oldest messages if both do not fit; without the summary if only the newest is left. It is
 * stored as long as the model's budget allows: where a prompt leaves less room, only its beginning is shown.
 */
function addSummary(
  { newestFirst, tokens, isCut }: Omit<History, "summary">,
  content: string | undefined,
  tokensMax: number,
): History {
  if (content === undefined) return { newestFirst, summary: [], tokens, isCut };
  const shown = cutText(content, tokensMax * SUMMARY_SHARE);
  if (shown === "") return { newestFirst, summary: [], tokens, isCut: true };
  const summary: ChatMessage = { role: "system", content: writeSummary(shown) };
  const kept = [...newestFirst];
  let all = tokens + countMessage(summary);
  while (all > tokensMax && kept.length > 1) all -= countMessages(kept.splice(-1));
  if (all > tokensMax) return { newestFirst, summary: [], tokens, isCut: true };
  return { newestFirst: kept, summary: [summary], tokens: all, isCut: isCut || kept.length < newestFirst.length };
}

function mapToChatMessage(role: HistoryRow["role"], content: string, name: string | null): ChatMessage {
  if (role === "assistant") return { role, content };
  if (role === "system") return { role, content };
  return { role: "user", content, ...(name !== null && { name }) };
}
