import type { ReceivedAnswer } from "./received-answer.ts";
import type { StoredMessage } from "./rest.ts";
import type { Frame } from "./socket.ts";

/** Maximum number of problems of one kind that a report lists; the rest are only counted. */
const LISTED_PROBLEMS_MAX = 3;
const QUOTED_CHARS_MAX = 120;

/** The fields of a message that its sender received in the acknowledgement. */
export type AcknowledgedMessage = Pick<StoredMessage, "id" | "seq" | "content">;

/** Checks that the sequence numbers are `firstSeq` to `lastSeq`, in order, without gaps or duplicates. */
export function findSequenceProblems(
  label: string,
  seqs: readonly number[],
  firstSeq: number,
  lastSeq: number,
): string[] {
  const problems: string[] = [];
  let expected = firstSeq;
  for (const seq of seqs) {
    if (seq !== expected)
      problems.push(
        `${label}: expected seq ${expected}, but got ${seq}${seq < expected ? " (duplicate or out of order)" : ""}`,
      );
    if (seq >= expected) expected = seq + 1;
  }
  if (expected <= lastSeq)
    problems.push(`${label}: expected events up to seq ${lastSeq}, but got them up to ${expected - 1}`);
  if (expected - 1 > lastSeq)
    problems.push(`${label}: expected no event after seq ${lastSeq}, but got ${expected - 1}`);
  return truncateList(problems);
}

/** Checks that `stored` contains every acknowledged message once and unchanged. It may contain other messages. */
export function findLossProblems(
  label: string,
  acknowledged: ReadonlyMap<string, AcknowledgedMessage>,
  stored: readonly StoredMessage[],
): string[] {
  const storedByClientId = Map.groupBy(stored, ({ client_message_id }) => client_message_id);
  const problems: string[] = [];
  for (const [clientId, { id, seq, content }] of acknowledged) {
    const [message, ...duplicates] = storedByClientId.get(clientId) ?? [];
    if (!message)
      problems.push(`${label}: expected the acknowledged message ${clientId} (seq ${seq}), but it is missing`);
    if (duplicates.length > 0)
      problems.push(`${label}: expected the message ${clientId} once, but got it ${duplicates.length + 1} times`);
    if (message && (message.id !== id || message.seq !== seq || message.content !== content))
      problems.push(
        `${label}: expected the message ${clientId} as acknowledged (seq ${seq}, ${quote(content)}), but got seq ${message.seq}, ${quote(message.content)}`,
      );
  }
  return truncateList(problems);
}

/** Checks that no client message id is stored twice. */
export function findDuplicateProblems(label: string, messages: readonly StoredMessage[]): string[] {
  const groups = Map.groupBy(
    messages.filter(({ client_message_id }) => client_message_id !== null),
    ({ client_message_id }) => client_message_id,
  );
  const duplicateGroups = [...groups].filter(([, messages]) => messages.length > 1);
  return truncateList(
    duplicateGroups.map(
      ([id, messages]) => `${label}: expected the message ${id} once, but got it ${messages.length} times`,
    ),
  );
}

/** Checks that the answer is complete and has the expected text, both as stored and as the reader received it. */
export function findAnswerProblems(
  label: string,
  expected: string,
  received: ReceivedAnswer,
  stored: StoredMessage,
): string[] {
  const problems = received.problems.map((problem) => `${label}: ${problem}`);
  if (stored.status !== "complete") problems.push(`${label}: expected status complete, but got ${stored.status}`);
  if (stored.content !== expected)
    problems.push(`${label}: ${describeTextDifference("text", expected, stored.content)}`);
  if (received.final === null) problems.push(`${label}: expected message.completed, but the reader didn't receive it`);
  if (received.text !== stored.content)
    problems.push(`${label}: ${describeTextDifference("text received by the reader", stored.content, received.text)}`);
  return truncateList(problems);
}

/** Checks that the reader received a `message.reset` for another attempt, unless it reconnected after the answer was complete. */
export function findTakeoverProblems(
  label: string,
  { attempts, resetCount, isFinalRecovered }: ReceivedAnswer,
): string[] {
  if (isFinalRecovered) return [];
  if (resetCount > 0 && (attempts.at(-1) ?? 0) > (attempts[0] ?? 0)) return [];
  return [
    `${label}: expected a message.reset and a higher attempt number, but got ${resetCount} resets and the attempts ${attempts.join(", ") || "none"}`,
  ];
}

/** An outsider's request and the server's response: an HTTP status or an error code. */
export type AccessAttempt = { action: string; expected: string | number; actual: string | number | undefined };

/** Returns the frames that are not responses to the client's frames. */
export const listPushes = (frames: readonly Frame[]): Frame[] =>
  frames.filter(({ type }) => !["ready", "ack", "error", "pong"].includes(type));

/** Checks that all requests of an outsider were rejected, and that the outsider received no pushes. */
export function findLeakProblems(attempts: readonly AccessAttempt[], received: readonly Frame[]): string[] {
  const accessProblems = attempts
    .filter(({ expected, actual }) => actual !== expected)
    .map(
      ({ action, expected, actual }) =>
        `${action}: expected ${expected} for an outsider, but got ${actual ?? "nothing"}`,
    );
  const pushProblems = listPushes(received).map(
    (frame) => `expected no push to an outsider, but got ${quote(JSON.stringify(frame))}`,
  );
  return [...truncateList(accessProblems), ...truncateList(pushProblems)];
}

export type Summary = { messages: number; lastSeq: number; sha256: string };

/** Counts and hashes the messages up to a sequence number. */
export function summarizeMessages(messages: readonly StoredMessage[], untilSeq = Number.POSITIVE_INFINITY): Summary {
  const hash = new Bun.CryptoHasher("sha256");
  const selectedMessages = messages.filter(({ seq }) => seq <= untilSeq);
  for (const { id, seq, role, status, content, client_message_id } of selectedMessages)
    hash.update(`${JSON.stringify([id, seq, role, status, content, client_message_id])}\n`);
  return { messages: selectedMessages.length, lastSeq: selectedMessages.at(-1)?.seq ?? 0, sha256: hash.digest("hex") };
}

/** Checks that a restored conversation equals the original up to the time of the backup. */
export function findRestoreProblems(
  label: string,
  original: readonly StoredMessage[],
  restored: readonly StoredMessage[],
): string[] {
  const actual = summarizeMessages(restored);
  const expected = summarizeMessages(original, actual.lastSeq);
  const problems: string[] = [];
  if (actual.messages !== expected.messages)
    problems.push(
      `${label}: expected ${expected.messages} messages up to seq ${actual.lastSeq}, but got ${actual.messages}`,
    );
  if (actual.sha256 !== expected.sha256)
    problems.push(`${label}: expected the checksum ${expected.sha256}, but got ${actual.sha256}`);
  return problems;
}

/** Checks that a duration is within its limit. */
export function findLimitProblems(label: string, durationMs: number, maxMs: number): string[] {
  return durationMs <= maxMs
    ? []
    : [`${label}: expected at most ${maxMs} ms, but it took ${Math.round(durationMs)} ms`];
}

function describeTextDifference(subject: string, expected: string, actual: string): string {
  let position = 0;
  while (position < expected.length && expected[position] === actual[position]) position += 1;
  const start = Math.max(0, position - 20);
  const quoteExcerpt = (text: string) => quote(text.slice(start, start + 60));
  return `expected the ${subject} to have ${expected.length} characters, but got ${actual.length}; from character ${start}: ${quoteExcerpt(expected)} and ${quoteExcerpt(actual)}`;
}

function truncateList(problems: readonly string[]): string[] {
  if (problems.length <= LISTED_PROBLEMS_MAX) return [...problems];
  return [
    ...problems.slice(0, LISTED_PROBLEMS_MAX),
    `… and ${problems.length - LISTED_PROBLEMS_MAX} more of this kind`,
  ];
}

const quote = (text: string): string =>
  JSON.stringify(text.length > QUOTED_CHARS_MAX ? `${text.slice(0, QUOTED_CHARS_MAX)}…` : text);
