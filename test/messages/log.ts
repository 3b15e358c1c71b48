import { expect } from "bun:test";
import type { TestApp } from "../support/app.ts";
import type { Frame } from "../support/socket.ts";

const listSeqs = (last: number): number[] => Array.from({ length: last }, (_, index) => index + 1);

export type StoredEvent = { seq: number; type: string; message_id: string | null };

/** Loads a conversation's log, and expects gapless seqs and one message per client id. */
export async function loadVerifiedLog({ database }: TestApp, conversationId: string): Promise<StoredEvent[]> {
  // A single statement reads one snapshot, even while answers and titles are being stored.
  const [row] = await database<{ last_seq: number; log: StoredEvent[] }[]>`
    select c.last_seq, coalesce((
      select json_agg(e order by e.seq) from (
        select seq, 'message.created' as type, id as message_id from messages where conversation_id = c.id
        union all
        select seq, type, message_id from events where conversation_id = c.id
      ) e
    ), '[]') as log
    from conversations c where c.id = ${conversationId}`;
  const log = row?.log ?? [];
  expect(log.map(({ seq }) => seq)).toEqual(listSeqs(row?.last_seq ?? -1));
  const duplicates = await database`
    select author_id, client_message_id from messages
    where conversation_id = ${conversationId} and client_message_id is not null group by 1, 2 having count(*) > 1`;
  expect([...duplicates]).toEqual([]);
  return log;
}

/** Lists the events of a conversation that a socket received by recovery or push, in order of arrival. */
export function listReceivedEvents(frames: readonly Frame[], conversationId: string): StoredEvent[] {
  return frames
    .flatMap((frame): Frame[] => (frame.type === "ack" && Array.isArray(frame.events) ? frame.events : [frame]))
    .filter((frame) => frame.conversation_id === conversationId && frame.seq !== undefined)
    .map(({ seq, type, data }) => ({
      seq: seq as number,
      type,
      message_id: type.startsWith("message.") ? String(data?.id) : null,
    }));
}
