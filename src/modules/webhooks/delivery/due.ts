import type { Sql } from "../../../db/client.ts";
import { conversationColumns, shortMessageColumns } from "../../../events/columns.ts";
import { type ConversationRow, mapRowToSharedConversation } from "../../../protocol/conversation.ts";
import { type MessageRow, mapRowToMessage } from "../../../protocol/message.ts";
import type { Endpoint } from "./leases.ts";

/** Maximum UTF-16 code units of a message's text to read. This is more than fits in a body, so that createBody notices that it must truncate. */
const CONTENT_CHARS_MAX = 20_001;

/** A due delivery with its current content. */
export type DueDelivery = {
  id: string;
  type: string;
  conversationId: string | null;
  seq: number | null;
  occurredAt: Date;
  /** The number of previous attempts. */
  attempts: number;
  data: Record<string, unknown>;
  /** Whether the webhook's owner still has access to the event. */
  isAllowed: boolean;
  url: string;
  /** The encrypted secrets: the current one and, for a day after a rotation, the previous one. */
  secrets: string[];
};

type DueRow = {
  id: string;
  type: string;
  conversation_id: string | null;
  seq: number | null;
  occurred_at: Date;
  attempts: number;
  about_id: string | null;
  data: Record<string, unknown> | null;
  is_allowed: boolean;
  url: string;
  secrets: string[];
  message: Jsonified<MessageRow> | null;
  conversation: Jsonified<ConversationRow> | null;
};

/** A row that was converted to JSON, in which times are strings. */
type Jsonified<Row> = { [K in keyof Row]: Date extends Row[K] ? string | Exclude<Row[K], Date> : Row[K] };

/**
 * Loads an endpoint's due deliveries, in order, if this instance has its lease. Checks for each delivery whether the webhook's owner
 * has access as an administrator, as the user that the event is about, or as a member of the conversation.
 * @param inProgressIds the deliveries in progress. They are omitted.
 */
export async function loadDueDeliveries(
  sql: Sql,
  owner: string,
  { id, fence }: Endpoint,
  inProgressIds: string[],
  limit: number,
): Promise<DueDelivery[]> {
  const dueRows = await sql<DueRow[]>`
    select d.id, d.type, d.conversation_id, d.seq, d.occurred_at, d.attempts, d.url, d.secrets,
      coalesce(d.message_id, d.user_id, d.conversation_id) as about_id,
      d.is_enabled and (
        d.is_admin or d.user_id = d.owner_id or d.user_id is null and (
          d.type = 'conversation.deleted'
          or exists (select from members m where m.conversation_id = d.conversation_id and m.user_id = d.owner_id)
          or exists (
            select from webhook_farewells f where f.conversation_id = d.conversation_id and f.webhook_id = d.webhook_id))
      ) as is_allowed,
      case
        when d.data is not null then d.data
        when d.type = 'conversation.deleted' then jsonb_build_object('id', d.conversation_id)
        when d.type like 'member.%' then (
          select e.data from events e where e.conversation_id = d.conversation_id and e.seq = d.seq limit 1)
        when d.type like 'user.%' then (
          select jsonb_build_object('id', s.id, 'email', s.email, 'display_name', s.display_name, 'role', s.role,
            'disabled', s.disabled_at is not null,
            'created_at', to_char(s.created_at at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'))
          from users s where s.id = d.user_id and s.deleting_at is null)
      end as data,
      case when d.message_id is not null then (
        select to_jsonb(y) from (
          select ${shortMessageColumns(sql, CONTENT_CHARS_MAX)} from current_messages x
          where x.conversation_id = d.conversation_id and x.id = d.message_id
            -- Nothing is sent about a deleted conversation, even if its rows still exist.
            and not exists (select from conversations c where c.id = d.conversation_id and c.deleted_at is not null)
          limit 1
        ) y) end as message,
      case when d.type = 'conversation.updated' then (
        select to_jsonb(y) from (select ${conversationColumns(sql)} from conversations c where c.id = d.conversation_id) y
      ) end as conversation
    from (
      select d.*, w.url, u.disabled_at is null as is_enabled, u.role = 'admin' as is_admin, w.user_id as owner_id,
        array[w.secret] || case when w.previous_secret_until > now() then array[w.previous_secret] end as secrets
      from webhooks w join users u on u.id = w.user_id join webhook_deliveries d on d.webhook_id = w.id
      where w.id = ${id} and w.owner = ${owner} and w.fence = ${fence} and w.disabled_at is null
        and (w.paused_until is null or w.paused_until <= now())
        and d.status = 'pending' and d.next_attempt_at <= now() and d.id <> all (${inProgressIds}::uuid[])
      order by d.next_attempt_at, d.n limit ${limit}
    ) d
    order by d.next_attempt_at, d.n`;
  return dueRows.map(mapRowToDueDelivery);
}

function mapRowToDueDelivery(row: DueRow): DueDelivery {
  return {
    id: row.id,
    type: row.type,
    conversationId: row.conversation_id,
    seq: row.seq,
    occurredAt: row.occurred_at,
    attempts: row.attempts,
    data: createData(row),
    isAllowed: row.is_allowed,
    url: row.url,
    secrets: row.secrets,
  };
}

/**
 * Creates the event's data: the current state of the message, conversation or user that the event is about. If that was deleted, the
 * data contains only its id.
 */
function createData({ message, conversation, data, about_id }: DueRow): Record<string, unknown> {
  if (message)
    return mapRowToMessage({
      ...message,
      cost_usd: message.cost_usd === null ? null : String(message.cost_usd),
      created_at: new Date(message.created_at),
      updated_at: new Date(message.updated_at),
      deleted_at: message.deleted_at === null ? null : new Date(message.deleted_at),
    });
  if (conversation)
    return mapRowToSharedConversation({
      ...conversation,
      created_at: new Date(conversation.created_at),
      updated_at: new Date(conversation.updated_at),
    });
  return data ?? { id: about_id };
}
