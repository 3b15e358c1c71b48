import { indexEvents, type Send, type StoredConversation, type StoredMessage, type Violation } from "./record.ts";

/** Each acknowledged message is stored once, as it was sent, with the seq of every ack. */
export function checkSends(sends: readonly Send[], stored: readonly StoredConversation[]): Violation[] {
  const rows = Map.groupBy(
    stored.flatMap(({ messages }) => messages).filter(({ clientMessageId }) => clientMessageId !== null),
    ({ clientMessageId }) => clientMessageId,
  );
  return [...sends.flatMap((send) => checkSend(send, rows.get(send.clientMessageId) ?? [])), ...checkOrder(sends)];
}

function checkSend(send: Send, rows: readonly StoredMessage[]): Violation[] {
  const name = `${send.clientMessageId} of ${send.client}`;
  if (rows.length > 1) return [{ rule: "doubled message", detail: `${name} is stored at ${list(rows)}` }];
  const [row] = rows;
  if (!row) {
    if (send.acks.length > 0) return [{ rule: "lost ack", detail: `${name} is acknowledged and not stored` }];
    return [{ rule: "unacknowledged message", detail: `${name} was never acknowledged, and is not stored` }];
  }
  if (send.acks.length === 0)
    return [{ rule: "unacknowledged message", detail: `${name} is stored at ${row.seq}, and was never acknowledged` }];
  const isAsSent = row.content === send.content && row.conversationId === send.conversationId;
  const changed = send.acks.filter(
    ({ id, seq, content }) => id !== row.id || seq !== row.seq || content !== row.content,
  );
  if (isAsSent && changed.length === 0) return [];
  const detail = `${name}: sent ${show(send.content)}, acknowledged ${show(send.acks)}, stored ${show(row)}`;
  return [{ rule: "changed message", detail }];
}

/** If a message was acknowledged before another one was sent, it has the lower seq, no matter who sent the two. */
function checkOrder(sends: readonly Send[]): Violation[] {
  const violations: Violation[] = [];
  for (const [, ofOne] of Map.groupBy(sends, ({ conversationId }) => conversationId)) {
    const acked = ofOne
      .filter(({ ackedStep }) => ackedStep !== null)
      .sort((a, b) => (a.ackedStep ?? 0) - (b.ackedStep ?? 0));
    let next = 0;
    let newest: { seq: number; name: string } = { seq: 0, name: "" };
    for (const send of ofOne.toSorted((a, b) => a.sentStep - b.sentStep)) {
      for (let ack = acked[next]; ack && (ack.ackedStep ?? 0) < send.sentStep; ack = acked[++next]) {
        const seq = ack.acks[0]?.seq ?? 0;
        if (seq > newest.seq) newest = { seq, name: ack.clientMessageId };
      }
      const seq = send.acks[0]?.seq;
      if (seq === undefined || seq > newest.seq) continue;
      const detail = `${send.clientMessageId} was sent after ${newest.name} was acknowledged at ${newest.seq}, and is at ${seq}`;
      violations.push({ rule: "swapped order", detail });
    }
  }
  return violations;
}

/** The seqs of a conversation's messages and other events have no gaps or repeats, and end at `lastSeq`. */
export function checkNumbers(conversation: StoredConversation): Violation[] {
  const { id, lastSeq, messages, events } = conversation;
  const count = messages.length + events.length;
  const numbers = indexEvents(conversation);
  const violations: Violation[] = [];
  if (numbers.size < count) violations.push({ rule: "repeat", detail: `${id} stores numbers twice` });
  for (let seq = 1; seq <= lastSeq; seq += 1)
    if (!numbers.has(seq)) violations.push({ rule: "gap", detail: `${id} stores no ${seq}` });
  if (Math.max(0, ...numbers.keys()) > lastSeq)
    violations.push({ rule: "gap", detail: `${id} stores more than its last number ${lastSeq}` });
  return violations;
}

const show = (value: unknown): string => JSON.stringify(value);
const list = (rows: readonly StoredMessage[]): string => rows.map(({ seq }) => seq).join(" and ");
