import { indexEvents, type Send, type StoredConversation, type StoredMessage, type Violation } from "./history.ts";

/** Checks that each message is acknowledged, and stored once, unchanged, with the acknowledged sequence number. */
export function checkSends(sends: readonly Send[], stored: readonly StoredConversation[]): Violation[] {
  const rowsByClientMessageId = Map.groupBy(
    stored.flatMap(({ messages }) => messages).filter(({ clientMessageId }) => clientMessageId !== null),
    ({ clientMessageId }) => clientMessageId,
  );
  return [
    ...sends.flatMap((send) => checkSend(send, rowsByClientMessageId.get(send.clientMessageId) ?? [])),
    ...checkOrder(sends),
  ];
}

function checkSend(send: Send, rows: readonly StoredMessage[]): Violation[] {
  const name = `${send.clientMessageId} from ${send.client}`;
  if (rows.length > 1) return [{ rule: "duplicate message", detail: `${name} is stored at ${formatSeqs(rows)}` }];
  const [row] = rows;
  if (!row) {
    if (send.acks.length > 0) return [{ rule: "lost message", detail: `${name} is acknowledged but not stored` }];
    return [{ rule: "unacknowledged message", detail: `${name} was never acknowledged and isn't stored` }];
  }
  if (send.acks.length === 0)
    return [{ rule: "unacknowledged message", detail: `${name} is stored at ${row.seq} but was never acknowledged` }];
  const isUnchanged = row.content === send.content && row.conversationId === send.conversationId;
  const differingAcks = send.acks.filter(
    ({ id, seq, content }) => id !== row.id || seq !== row.seq || content !== row.content,
  );
  if (isUnchanged && differingAcks.length === 0) return [];
  const detail = `${name}: sent ${formatJson(send.content)}, acknowledged ${formatJson(send.acks)}, stored ${formatJson(row)}`;
  return [{ rule: "changed message", detail }];
}

/** Checks that each message's sequence number is higher than those of messages acknowledged before it was sent. */
function checkOrder(sends: readonly Send[]): Violation[] {
  const violations: Violation[] = [];
  for (const [, conversationSends] of Map.groupBy(sends, ({ conversationId }) => conversationId)) {
    const acknowledgedSends = conversationSends
      .filter(({ ackedStep }) => ackedStep !== null)
      .sort((a, b) => (a.ackedStep ?? 0) - (b.ackedStep ?? 0));
    let nextIndex = 0;
    let newest: { seq: number; name: string } = { seq: 0, name: "" };
    for (const send of conversationSends.toSorted((a, b) => a.sentStep - b.sentStep)) {
      for (
        let acked = acknowledgedSends[nextIndex];
        acked && (acked.ackedStep ?? 0) < send.sentStep;
        acked = acknowledgedSends[++nextIndex]
      ) {
        const seq = acked.acks[0]?.seq ?? 0;
        if (seq > newest.seq) newest = { seq, name: acked.clientMessageId };
      }
      const seq = send.acks[0]?.seq;
      if (seq === undefined || seq > newest.seq) continue;
      const detail = `${send.clientMessageId} was sent after ${newest.name} was acknowledged at ${newest.seq}, but is at ${seq}`;
      violations.push({ rule: "incorrect order", detail });
    }
  }
  return violations;
}

/** Checks that a conversation's sequence numbers have no gaps or duplicates, and end at `lastSeq`. */
export function checkSequence(conversation: StoredConversation): Violation[] {
  const { id, lastSeq, messages, events } = conversation;
  const count = messages.length + events.length;
  const eventsBySeq = indexEvents(conversation);
  const violations: Violation[] = [];
  if (eventsBySeq.size < count) violations.push({ rule: "duplicate", detail: `${id} has duplicate sequence numbers` });
  for (let seq = 1; seq <= lastSeq; seq += 1)
    if (!eventsBySeq.has(seq)) violations.push({ rule: "gap", detail: `${id} has no event ${seq}` });
  if (Math.max(0, ...eventsBySeq.keys()) > lastSeq)
    violations.push({ rule: "gap", detail: `${id} has events after its last sequence number ${lastSeq}` });
  return violations;
}

const formatJson = (value: unknown): string => JSON.stringify(value);
const formatSeqs = (rows: readonly StoredMessage[]): string => rows.map(({ seq }) => seq).join(" and ");
