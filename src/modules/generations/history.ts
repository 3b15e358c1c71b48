import type { ChatMessage } from "../../ai/provider.ts";
import { countMessage, countMessages } from "../../ai/tokens.ts";
import type { HistoryRow } from "./context-queries.ts";
import { CHARS_PER_TOKEN_MAX, formatSummary, SUMMARY_SHARE, shortenText } from "./context-texts.ts";

/** The maximum number of messages that a model receives, however short. */
export const HISTORY_MESSAGES_MAX = 1_000;

type History = {
  newestFirst: ChatMessage[];
  /** Replaces the earlier messages; zero or one message. */
  summary: ChatMessage[];
  /** Estimated tokens of all of them. */
  tokens: number;
  /** Whether messages were omitted without being in a summary. */
  isCut: boolean;
};

/**
 * Selects the part of a path (path.ts) that a model receives: the newest messages that fit, and the summary of earlier
 * messages. Reads no more of the path than that.
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
      // The message being answered is always included, however long.
      if (newestFirst.length > 0 && (isTooMuch || newestFirst.length >= HISTORY_MESSAGES_MAX)) {
        // A summary is better than no earlier history, even if some messages in between are in neither.
        const older = rows.slice(index).find((row) => row.summary)?.summary;
        return addSummary({ newestFirst, tokens, isCut: true }, older?.content, tokensMax);
      }
      tokens += count;
      newestFirst.push(message);
    }
  return { newestFirst, summary: [], tokens, isCut: false };
}

/**
 * Adds the summary, and drops the oldest messages if both don't fit; omits the summary if only the newest message would
 * remain. A stored summary fits the model's budget; if the prompt leaves less space, the summary is shortened.
 */
function addSummary(
  { newestFirst, tokens, isCut }: Omit<History, "summary">,
  content: string | undefined,
  tokensMax: number,
): History {
  if (content === undefined) return { newestFirst, summary: [], tokens, isCut };
  const shortened = shortenText(content, tokensMax * SUMMARY_SHARE);
  if (shortened === "") return { newestFirst, summary: [], tokens, isCut: true };
  const summary: ChatMessage = { role: "system", content: formatSummary(shortened) };
  const kept = [...newestFirst];
  let total = tokens + countMessage(summary);
  while (total > tokensMax && kept.length > 1) total -= countMessages(kept.splice(-1));
  if (total > tokensMax) return { newestFirst, summary: [], tokens, isCut: true };
  return { newestFirst: kept, summary: [summary], tokens: total, isCut: isCut || kept.length < newestFirst.length };
}

function mapToChatMessage(role: HistoryRow["role"], content: string, name: string | null): ChatMessage {
  if (role === "assistant") return { role, content };
  if (role === "system") return { role, content };
  return { role: "user", content, ...(name !== null && { name }) };
}
