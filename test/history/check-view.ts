import type { Frame } from "../support/socket.ts";
import {
  indexEvents,
  type Observation,
  type Rule,
  type StoredConversation,
  type StoredEvent,
  type View,
  type Violation,
} from "./history.ts";
import { TextReader } from "./text-reader.ts";

/** The maximum number of events that a subscription recovers. */
const RECOVERED_EVENTS_MAX = 500;

/**
 * Checks that a client received each event of a stored conversation once and in order, that the text of each answer
 * matches its deltas, and that the client received nothing while its user wasn't a member.
 */
export function checkView(view: View, conversation: StoredConversation): Violation[] {
  const name = `${view.client} in ${view.conversationId}`;
  const violations: Violation[] = [];
  const report = (rule: Rule, detail: string) => void violations.push({ rule, detail: `${name}: ${detail}` });
  const eventsBySeq = indexEvents(conversation);
  const memberships = listMemberships(conversation, view.userId);
  const contentsById = new Map(conversation.messages.map(({ id, content }) => [id, content]));
  const textReader = new TextReader(contentsById, report);
  let clientSeq = 0;

  function handleEvent(event: Frame, pushedAtMs: number | null): void {
    const eventSeq = event.seq ?? 0;
    const isOwnRemoval = event.type === "member.removed" && event.data?.user_id === view.userId;
    if (eventSeq <= clientSeq) report("duplicate", `${event.type} ${eventSeq} arrived after ${clientSeq}`);
    // A removed member is notified immediately, even if an earlier event is still missing.
    else if (eventSeq > clientSeq + 1 && isOwnRemoval) textReader.reconnect(true);
    else if (eventSeq > clientSeq + 1) report("gap", `${event.type} ${eventSeq} arrived after ${clientSeq}`);
    if (pushedAtMs !== null && eventSeq > findPushableSeq(memberships, pushedAtMs))
      report("not a member", `${event.type} ${eventSeq} was pushed`);
    const mismatch = findMismatch(event, eventsBySeq.get(eventSeq));
    if (mismatch) report("incorrect event", mismatch);
    clientSeq = Math.max(clientSeq, eventSeq);
    textReader.handleEvent(event, pushedAtMs !== null);
  }

  function handleSubscription({
    afterSeq,
    isRecovered,
    lastSeq,
    events,
  }: Extract<Observation, { type: "subscribed" }>): void {
    textReader.reconnect(!isRecovered);
    for (const event of events) handleEvent(event, null);
    if (isRecovered) {
      if (clientSeq < lastSeq)
        report("gap", `a subscription after ${afterSeq} recovered events up to ${clientSeq} of ${lastSeq}`);
      return;
    }
    if (lastSeq - afterSeq <= RECOVERED_EVENTS_MAX)
      report("gap", `nothing was recovered between ${afterSeq} and ${lastSeq}`);
    // A client would load the missed events over REST.
    clientSeq = lastSeq;
  }

  for (const observation of view.observations) {
    if (observation.type === "event") handleEvent(observation.event, observation.atMs);
    else if (observation.type === "text") textReader.handleText(observation.frame);
    else handleSubscription(observation);
  }
  if (isMember(memberships, conversation.lastSeq) && clientSeq !== conversation.lastSeq)
    report("gap", `the last event is ${clientSeq}, but the conversation's is ${conversation.lastSeq}`);
  return violations;
}

function findMismatch({ seq, type, data }: Frame, stored: StoredEvent | undefined): string | null {
  if (!stored) return `${type} ${seq} isn't stored`;
  if (stored.type !== type) return `${type} ${seq} is stored as ${stored.type}`;
  if (stored.messageId !== null && stored.messageId !== data?.id) return `${type} ${seq} is about a different message`;
  return null;
}

/** A period of membership, from the event `firstSeq` to the removal `endSeq`, or to infinity if it hasn't ended. */
type Membership = { firstSeq: number; startMs: number; endSeq: number };

/** Lists the periods in which a user was a member. */
function listMemberships({ events, memberIds }: StoredConversation, userId: string): Membership[] {
  const changes = events.filter((event) => event.userId === userId).sort((a, b) => a.seq - b.seq);
  const isInitialMember = changes[0] ? changes[0].type !== "member.added" : memberIds.includes(userId);
  const memberships: Membership[] = isInitialMember
    ? [{ firstSeq: 0, startMs: 0, endSeq: Number.POSITIVE_INFINITY }]
    : [];
  for (const { type, seq, atMs } of changes) {
    const last = memberships.at(-1);
    if (type === "member.removed" && last) last.endSeq = seq;
    // A role change is stored as `member.added`, too.
    else if (type === "member.added" && last?.endSeq !== Number.POSITIVE_INFINITY)
      memberships.push({ firstSeq: seq, startMs: atMs, endSeq: Number.POSITIVE_INFINITY });
  }
  return memberships;
}

/**
 * Finds the highest sequence number that may be pushed to the user at that time. For a former member, this is the
 * removal's sequence number.
 */
const findPushableSeq = (memberships: readonly Membership[], atMs: number): number =>
  memberships.findLast(({ startMs }) => startMs <= atMs)?.endSeq ?? -1;

const isMember = (memberships: readonly Membership[], seq: number): boolean =>
  memberships.some(({ firstSeq, endSeq }) => seq >= firstSeq && seq < endSeq);
