import type { Frame } from "../support/socket.ts";
import {
  indexEvents,
  type Rule,
  type Seen,
  type StoredConversation,
  type StoredEvent,
  type View,
  type Violation,
} from "./record.ts";
import { TextReader } from "./text-reader.ts";

/** A subscription may recover at most this many events. */
const RECOVERED_MAX = 500;

/**
 * A client's view equals the stored conversation: each event once, in order, with the text of each answer matching its
 * deltas; and non-members receive nothing.
 */
export function checkView(view: View, conversation: StoredConversation): Violation[] {
  const name = `${view.client} in ${view.conversationId}`;
  const violations: Violation[] = [];
  const report = (rule: Rule, detail: string) => void violations.push({ rule, detail: `${name}: ${detail}` });
  const stored = indexEvents(conversation);
  const memberships = listMemberships(conversation, view.userId);
  const contents = new Map(conversation.messages.map(({ id, content }) => [id, content]));
  const texts = new TextReader(contents, report);
  let seq = 0;

  function takeEvent(event: Frame, pushedAtMs: number | null): void {
    const at = event.seq ?? 0;
    const isOwnEnd = event.type === "member.removed" && event.data?.user_id === view.userId;
    if (at <= seq) report("repeat", `${event.type} ${at} came after ${seq}`);
    // A removed member is notified at once, even if an earlier event is still missing.
    else if (at > seq + 1 && isOwnEnd) texts.reconnect(true);
    else if (at > seq + 1) report("gap", `${event.type} ${at} came after ${seq}`);
    if (pushedAtMs !== null && at > findPushableSeq(memberships, pushedAtMs))
      report("not a member", `${event.type} ${at} was pushed`);
    const mismatch = findMismatch(event, stored.get(at));
    if (mismatch) report("other event", mismatch);
    seq = Math.max(seq, at);
    texts.takeEvent(event, pushedAtMs !== null);
  }

  function takeSubscription({ afterSeq, isRecovered, lastSeq, events }: Extract<Seen, { type: "subscribed" }>): void {
    texts.reconnect(!isRecovered);
    for (const event of events) takeEvent(event, null);
    if (isRecovered) {
      if (seq < lastSeq) report("gap", `a subscription after ${afterSeq} goes on at ${lastSeq}, and brought ${seq}`);
      return;
    }
    if (lastSeq - afterSeq <= RECOVERED_MAX) report("gap", `nothing was recovered between ${afterSeq} and ${lastSeq}`);
    // The client reads the rest over REST and continues from there.
    seq = lastSeq;
  }

  for (const seen of view.seen) {
    if (seen.type === "event") takeEvent(seen.event, seen.atMs);
    else if (seen.type === "text") texts.takeText(seen.frame);
    else takeSubscription(seen);
  }
  if (isMember(memberships, conversation.lastSeq) && seq !== conversation.lastSeq)
    report("gap", `it ends at ${seq}, the conversation at ${conversation.lastSeq}`);
  return violations;
}

function findMismatch({ seq, type, data }: Frame, stored: StoredEvent | undefined): string | null {
  if (!stored) return `${type} ${seq} is not stored`;
  if (stored.type !== type) return `${type} ${seq} is stored as ${stored.type}`;
  if (stored.messageId !== null && stored.messageId !== data?.id) return `${type} ${seq} is about another message`;
  return null;
}

type Membership = { from: number; fromMs: number; to: number };

/** The periods in which a user was a member, with the first and last event of each. */
function listMemberships({ events, memberIds }: StoredConversation, userId: string): Membership[] {
  const changes = events.filter((event) => event.userId === userId).sort((a, b) => a.seq - b.seq);
  const isFirstMember = changes[0] ? changes[0].type !== "member.added" : memberIds.includes(userId);
  const memberships: Membership[] = isFirstMember ? [{ from: 0, fromMs: 0, to: Number.POSITIVE_INFINITY }] : [];
  for (const { type, seq, atMs } of changes) {
    const last = memberships.at(-1);
    if (type === "member.removed" && last) last.to = seq;
    // A change of role sends the same event.
    else if (type === "member.added" && last?.to !== Number.POSITIVE_INFINITY)
      memberships.push({ from: seq, fromMs: atMs, to: Number.POSITIVE_INFINITY });
  }
  return memberships;
}

/** The last seq that may be pushed to the user at that time: any for a member, none after the removal for a former one. */
const findPushableSeq = (memberships: readonly Membership[], atMs: number): number =>
  memberships.findLast(({ fromMs }) => fromMs <= atMs)?.to ?? -1;

const isMember = (memberships: readonly Membership[], seq: number): boolean =>
  memberships.some(({ from, to }) => seq >= from && seq < to);
