import type { Slice } from "../../events/slice.ts";
import { createBadCursorProblem } from "../../http/pagination.ts";
import type { Message } from "../../protocol/message.ts";

export type SeqRange = { beforeSeq: number | undefined; afterSeq: number | undefined };

/** The version of a history page: the conversation's newest `seq` and the authors' names. */
export type PageVersion = { lastSeq: number; authorIds: string[]; names: (string | null)[] };

/** A slice of the history. `version` is null if it contains an unfinished answer. */
export type HistorySlice = Slice<Message> & { version: PageVersion | null };

export type RangeQuery = { limit?: number; cursor?: string; before_seq?: number; after_seq?: number };

/** Matches an event's `seq` in a request. */
export const SEQ_PATTERN = /^\d{1,16}$/;

/** Parses the range of a history page. @param cursor from `parsePageQuery`. @throws Problem `bad_cursor`. */
export function parseRange(cursor: string[] | null, query: RangeQuery): SeqRange {
  const range: SeqRange = { beforeSeq: query.before_seq, afterSeq: query.after_seq };
  if (!cursor) return range;
  const [key, text] = cursor;
  const position = parseSeq(text);
  if (key === "before") return { ...range, beforeSeq: position };
  if (key === "after") return { ...range, afterSeq: position };
  throw createBadCursorProblem();
}

/** Parses an event's `seq`. @throws Problem `bad_cursor`. */
export function parseSeq(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const seq = Number(text);
  if (!SEQ_PATTERN.test(text) || !Number.isSafeInteger(seq)) throw createBadCursorProblem();
  return seq;
}

/** Creates the version of a page. @param lastSeq the newest `seq` before the page was read. */
export function createPageVersion(lastSeq: number, messages: readonly Message[]): PageVersion | null {
  const names = new Map<string, string>();
  for (const { author, status } of messages) {
    if (status === "streaming") return null;
    if (author?.kind === "user") names.set(author.id, author.display_name);
  }
  return { lastSeq, authorIds: [...names.keys()], names: [...names.values()] };
}
