import { type DurableEvent, durableEvents } from "../events.ts";
import { ada, ids, time } from "./example-data.ts";
import { durableExamples } from "./examples.ts";

const mapEventToBody = ({ type, conversation_id, seq, at, data }: DurableEvent) => ({
  type,
  timestamp: at,
  conversation_id,
  seq,
  data,
});

/** An example of each webhook body, by type. */
export const webhookExamples: Readonly<Record<string, object>> = {
  ...Object.fromEntries(Object.keys(durableEvents).map((type) => [type, mapEventToBody(findExample(type))])),
  "generation.failed": {
    type: "generation.failed",
    timestamp: time,
    conversation_id: ids.conversation,
    data: {
      generation_id: ids.generation,
      message_id: ids.answer,
      model: "openai/gpt-5.2",
      error: { code: "provider_unavailable", detail: "The model is not available. Try again later." },
    },
  },
  "user.created": { type: "user.created", timestamp: time, data: ada },
  "user.deleted": { type: "user.deleted", timestamp: time, data: { id: ids.ada } },
  "budget.exceeded": {
    type: "budget.exceeded",
    timestamp: time,
    data: {
      user_id: ids.ada,
      api_key_id: null,
      period: "month",
      starts_at: "2026-01-01T00:00:00.000Z",
      ends_at: "2026-02-01T00:00:00.000Z",
      spent_tokens: 1_000_412,
      limit_tokens: 1_000_000,
      spent_usd: 8.41,
      limit_usd: null,
    },
  },
  "webhook.disabled": {
    type: "webhook.disabled",
    timestamp: time,
    data: { webhook_id: ids.webhook, reason: "exhausted" },
  },
  "webhook.test": { type: "webhook.test", timestamp: time, data: { webhook_id: ids.webhook } },
};

function findExample(type: string): DurableEvent {
  return (durableExamples as Record<string, DurableEvent>)[type] as DurableEvent;
}
