import type { ChatMessage } from "../../ai/provider.ts";
import { estimateMessageTokens, estimateTotalTokens } from "../../ai/tokens.ts";
import type { HistoryRow } from "./context-queries.ts";
import { CHARS_PER_TOKEN_MAX, formatSummary, SUMMARY_SHARE, shortenText } from "./context-texts.ts";

/** The maximum number of messages that a model receives, even if they are short. */
export const HISTORY_MESSAGES_MAX = 1_000;

type History = {
  newestFirst: ChatMessage[];
  /** At most one message, which replaces the earlier messages. */
  summary: ChatMessage[];
  /** The estimated number of tokens in the messages and the summary. */
  tokens: number;
  /** Whether messages were omitted without being in a summary. */
  isTruncated: boolean;
};

/**
 * Selects the part of a path (path.ts) that a model receives: the newest messages that fit, and the summary of earlier messages. Reads
 * only as much of the path as needed.
 */
export async function collectHistory(path: AsyncIterable<HistoryRow[]>, tokensMax: number): Promise<History> {
  const newestFirst: ChatMessage[] = [];
  let tokens = 0;
  let chars = 0;
  for await (const rows of path)
    for (const [index, { role, content, author_name, summary }] of rows.entries()) {
      if (summary && newestFirst.length > 0)
        return addSummary({ newestFirst, tokens, isTruncated: false }, summary.content, tokensMax);
      if (content === null) continue;
      const message = mapToChatMessage(role, content, author_name);
      chars += content.length;
      const messageTokens = estimateMessageTokens(message);
      const exceedsLimit = tokens + messageTokens > tokensMax || chars > tokensMax * CHARS_PER_TOKEN_MAX;
      // The message being answered is always included, even if it is too long.
      if (newestFirst.length > 0 && (exceedsLimit || newestFirst.length >= HISTORY_MESSAGES_MAX)) {
        // A summary is better than no earlier history, even if some messages in between are omitted.
        const olderSummary = rows.slice(index).find((row) => row.summary)?.summary;
        return addSummary({ newestFirst, tokens, isTruncated: true }, olderSummary?.content, tokensMax);
      }
      tokens += messageTokens;
      newestFirst.push(message);
    }
  return { newestFirst, summary: [], tokens, isTruncated: false };
}

/**
 * Adds the summary. If it doesn't fit, drops the oldest messages, or omits the summary if only the newest message would remain. If a long
 * prompt leaves too little space for the summary, the summary is shortened.
 */
function addSummary(
  { newestFirst, tokens, isTruncated }: Omit<History, "summary">,
  content: string | undefined,
  tokensMax: number,
): History {
  if (content === undefined) return { newestFirst, summary: [], tokens, isTruncated };
  const shortened = shortenText(content, tokensMax * SUMMARY_SHARE);
  if (shortened === "") return { newestFirst, summary: [], tokens, isTruncated: true };
  const summary: ChatMessage = { role: "system", content: formatSummary(shortened) };
  const keptMessages = [...newestFirst];
  let totalTokens = tokens + estimateMessageTokens(summary);
  while (totalTokens > tokensMax && keptMessages.length > 1)
    totalTokens -= estimateTotalTokens(keptMessages.splice(-1));
  if (totalTokens > tokensMax) return { newestFirst, summary: [], tokens, isTruncated: true };
  return {
    newestFirst: keptMessages,
    summary: [summary],
    tokens: totalTokens,
    isTruncated: isTruncated || keptMessages.length < newestFirst.length,
  };
}

function mapToChatMessage(role: HistoryRow["role"], content: string, name: string | null): ChatMessage {
  if (role === "assistant") return { role, content };
  if (role === "system") return { role, content };
  return { role: "user", content, ...(name !== null && { name }) };
}
