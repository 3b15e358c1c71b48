import type { Reading } from "./reading.ts";
import type { StoredMessage } from "./rest.ts";
import type { Frame } from "./socket.ts";

/** The maximum number of problems of one kind that a report lists; the rest are only counted. */
const LISTED_MAX = 3;
const QUOTED_CHARS_MAX = 120;

/** A message as it was acknowledged to its sender. */
export type Acknowledged = Pick<StoredMessage, "id" | "seq" | "content">;

/** Checks that the numbers are `first` to `last`: each once, in order, without gaps. */
export function findSequenceProblems(where: string, seqs: readonly number[], first: number, last: number): string[] {
  const problems: string[] = [];
  let expected = first;
  for (const seq of seqs) {
    if (seq !== expected)
      problems.push(`${where}: expected seq ${expected}, but got ${seq}${seq < expected ? ", which came before" : ""}`);
    if (seq >= expected) expected = seq + 1;
  }
  if (expected <= last)
    problems.push(`${where}: expected events up to seq ${last}, but got them up to ${expected - 1}`);
  if (expected - 1 > last) problems.push(`${where}: expected no event after seq ${last}, but got ${expected - 1}`);
  return shorten(problems);
}

/** Checks that `found` contains every acknowledged message once and unchanged. It may contain other messages. */
export function findLossProblems(
  where: string,
  acknowledged: ReadonlyMap<string, Acknowledged>,
  found: readonly StoredMessage[],
): string[] {
  const byClientId = Map.groupBy(found, ({ client_message_id }) => client_message_id);
  const problems: string[] = [];
  for (const [clientId, { id, seq, content }] of acknowledged) {
    const [first, ...more] = byClientId.get(clientId) ?? [];
    if (!first)
      problems.push(`${where}: expected the acknowledged message ${clientId} (seq ${seq}), but it is missing`);
    if (more.length > 0)
      problems.push(`${where}: expected the message ${clientId} once, but got it ${more.length + 1} times`);
    if (first && (first.id !== id || first.seq !== seq || first.content !== content))
      problems.push(
        `${where}: expected the message ${clientId} as acknowledged (seq ${seq}, ${quote(content)}), but got seq ${first.seq}, ${quote(first.content)}`,
      );
  }
  return shorten(problems);
}

/** Checks that no client message id is stored twice. */
export function findRepeatProblems(where: string, found: readonly StoredMessage[]): string[] {
  const groups = Map.groupBy(
    found.filter(({ client_message_id }) => client_message_id !== null),
    ({ client_message_id }) => client_message_id,
  );
  const repeated = [...groups].filter(([, messages]) => messages.length > 1);
  return shorten(
    repeated.map(([id, messages]) => `${where}: expected the message ${id} once, but got it ${messages.length} times`),
  );
}

/** Checks that an answer was completed with the right text, both as stored and as its reader saw it. */
export function findAnswerProblems(where: string, expected: string, reading: Reading, stored: StoredMessage): string[] {
  const problems = reading.problems.map((problem) => `${where}: ${problem}`);
  if (stored.status !== "complete") problems.push(`${where}: expected status complete, but got ${stored.status}`);
  if (stored.content !== expected) problems.push(`${where}: ${describeDifference("text", expected, stored.content)}`);
  if (reading.final === null) problems.push(`${where}: expected message.completed, but the reader didn't receive it`);
  if (reading.text !== stored.content)
    problems.push(`${where}: ${describeDifference("text at the reader", stored.content, reading.text)}`);
  return shorten(problems);
}

/** Checks that the reader was told that another attempt took over, unless it reconnected after the answer had ended. */
export function findTakeoverProblems(where: string, { attempts, resets, isEndRecovered }: Reading): string[] {
  if (isEndRecovered) return [];
  if (resets > 0 && (attempts.at(-1) ?? 0) > (attempts[0] ?? 0)) return [];
  return [
    `${where}: expected a message.reset and a higher attempt, but got ${resets} resets and the attempts ${attempts.join(", ") || "none"}`,
  ];
}

/** What an outsider tried, and what the server returned. */
export type AccessAttempt = { what: string; expected: string | number; seen: string | number | undefined };

/** Returns the frames that are not responses to the client's frames. */
export const listPushes = (frames: readonly Frame[]): Frame[] =>
  frames.filter(({ type }) => !["ready", "ack", "error", "pong"].includes(type));

/** Checks that an outsider was refused everywhere and received no pushes. */
export function findLeakProblems(refusals: readonly AccessAttempt[], received: readonly Frame[]): string[] {
  const wrong = refusals
    .filter(({ expected, seen }) => seen !== expected)
    .map(({ what, expected, seen }) => `${what}: expected ${expected} for an outsider, but got ${seen ?? "nothing"}`);
  const leaked = listPushes(received).map(
    (frame) => `expected no push to an outsider, but got ${quote(JSON.stringify(frame))}`,
  );
  return [...shorten(wrong), ...shorten(leaked)];
}

export type Summary = { messages: number; lastSeq: number; sha256: string };

/** Counts and hashes the messages up to a sequence number. The hash covers ids, sequence numbers, author ids and content. */
export function summarize(messages: readonly StoredMessage[], untilSeq = Number.POSITIVE_INFINITY): Summary {
  const hash = new Bun.CryptoHasher("sha256");
  const counted = messages.filter(({ seq }) => seq <= untilSeq);
  for (const { id, seq, role, status, content, client_message_id } of counted)
    hash.update(`${JSON.stringify([id, seq, role, status, content, client_message_id])}\n`);
  return { messages: counted.length, lastSeq: counted.at(-1)?.seq ?? 0, sha256: hash.digest("hex") };
}

/** Checks that a restored conversation equals the original up to the time of the backup. */
export function findRestoreProblems(
  where: string,
  original: readonly StoredMessage[],
  restored: readonly StoredMessage[],
): string[] {
  const found = summarize(restored);
  const expected = summarize(original, found.lastSeq);
  const problems: string[] = [];
  if (found.messages !== expected.messages)
    problems.push(
      `${where}: expected ${expected.messages} messages up to seq ${found.lastSeq}, but got ${found.messages}`,
    );
  if (found.sha256 !== expected.sha256)
    problems.push(`${where}: expected the checksum ${expected.sha256}, but got ${found.sha256}`);
  return problems;
}

/** Checks that a duration is within its limit. */
export function findLimitProblems(what: string, ms: number, maxMs: number): string[] {
  return ms <= maxMs ? [] : [`${what}: expected at most ${maxMs} ms, but it took ${Math.round(ms)} ms`];
}

function describeDifference(what: string, expected: string, seen: string): string {
  let at = 0;
  while (at < expected.length && expected[at] === seen[at]) at += 1;
  const from = Math.max(0, at - 20);
  const part = (text: string) => quote(text.slice(from, from + 60));
  return `expected the ${what} to have ${expected.length} characters, but got ${seen.length}; from character ${from}: ${part(expected)} and ${part(seen)}`;
}

function shorten(problems: readonly string[]): string[] {
  if (problems.length <= LISTED_MAX) return [...problems];
  return [...problems.slice(0, LISTED_MAX), `… and ${problems.length - LISTED_MAX} more of this kind`];
}

const quote = (text: string): string =>
  JSON.stringify(text.length > QUOTED_CHARS_MAX ? `${text.slice(0, QUOTED_CHARS_MAX)}…` : text);
