import { type Static, type TString, Type } from "@sinclair/typebox";
import { PageQuery } from "../../http/pagination.ts";
import { Closed, Named, Nullable, OneOf, Timestamp, Uuid, VisibleText } from "../../lib/schema.ts";
import { durableEvents } from "../../protocol/events.ts";

/** Maximum length of a URL, in UTF-16 code units. */
const URL_CHARS_MAX = 2_000;
/** Maximum length of a description, in UTF-16 code units. */
const DESCRIPTION_CHARS_MAX = 500;

/** Events that are not in a conversation's event log. */
const systemEventTypes = [
  "generation.failed",
  "user.created",
  "user.deleted",
  "budget.exceeded",
  "webhook.disabled",
] as const;

/** Subscribes to every event, including events that later versions add. */
export const ALL_EVENTS = "*";
/** The event that `POST /webhooks/{id}/test` sends. Webhooks can't subscribe to it. */
export const TEST_EVENT = "webhook.test";

/** Every event that a webhook can subscribe to. */
export const webhookEventTypes = [...Object.keys(durableEvents), ...systemEventTypes];

const Url = Type.String({
  minLength: 1,
  maxLength: URL_CHARS_MAX,
  description: "The URL that events are posted to: `https`, or `http` without encryption.",
  examples: ["https://example.com/parley"],
});
const EventTypes = (description = "The event types to deliver, or `*` alone for all of them.") =>
  Type.Array(OneOf([ALL_EVENTS, ...webhookEventTypes]), {
    minItems: 1,
    maxItems: webhookEventTypes.length,
    description,
    examples: [["message.created", "message.completed"]],
  });
const Description = Nullable(VisibleText({ maxLength: DESCRIPTION_CHARS_MAX }), {
  description: "A note for users. Parley doesn't use it.",
});

const DisabledReason = OneOf(["gone", "exhausted", "user"], {
  description:
    "`gone`: the receiver responded with 410. `exhausted`: all attempts at a delivery failed. `user`: the owner disabled the webhook.",
});

/** A webhook without its secret. */
export const Webhook = Named(
  "Webhook",
  Type.Object({
    id: Uuid(),
    url: Type.String(),
    events: Type.Array(Type.String(), { description: "The event types, or `*` alone for all of them." }),
    description: Nullable(Type.String()),
    disabled: Type.Boolean(),
    disabled_reason: Nullable(DisabledReason),
    disabled_at: Nullable(Timestamp()),
    previous_secret_until: Nullable(
      Timestamp({
        description: "After a rotation, deliveries are also signed with the previous secret until this time.",
      }),
    ),
    created_at: Timestamp(),
    updated_at: Timestamp(),
  }),
);
export type Webhook = Static<typeof Webhook>;

const Secret = (): TString =>
  Type.String({
    description: "The secret that signs deliveries (Standard Webhooks). Returned only once.",
    examples: ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
  });

/** A webhook with its new secret, which is returned only when the webhook is created and when the secret is rotated. */
export const WebhookWithSecret = Named("WebhookWithSecret", Type.Object({ ...Webhook.properties, secret: Secret() }));
export type WebhookWithSecret = Static<typeof WebhookWithSecret>;

export const CreateWebhook = Named(
  "CreateWebhook",
  Closed({ url: Url, events: EventTypes(), description: Type.Optional(Description) }),
);
export type CreateWebhook = Static<typeof CreateWebhook>;

export const ChangeWebhook = Named(
  "ChangeWebhook",
  Closed({
    url: Type.Optional(Url),
    events: Type.Optional(EventTypes()),
    description: Type.Optional(Description),
    disabled: Type.Optional(
      Type.Boolean({
        description:
          "`true` stops deliveries, and pending ones fail. `false` enables the webhook again, regardless of why it was disabled.",
      }),
    ),
  }),
);
export type ChangeWebhook = Static<typeof ChangeWebhook>;

const deliveryStatuses = ["pending", "delivered", "failed"] as const;
export type DeliveryStatus = (typeof deliveryStatuses)[number];

/** The delivery of an event to a webhook. */
export const WebhookDelivery = Named(
  "WebhookDelivery",
  Type.Object({
    id: Uuid({ description: "The `webhook-id` header, which is the same in every attempt." }),
    type: Type.String({ description: "The event type." }),
    conversation_id: Nullable(Uuid()),
    seq: Nullable(Type.Integer({ description: "The event's `seq` in its conversation." })),
    status: OneOf(deliveryStatuses),
    attempts: Type.Integer(),
    next_attempt_at: Nullable(Timestamp({ description: "The time of a pending delivery's next attempt." })),
    response_status: Nullable(Type.Integer({ description: "HTTP status of the last response." })),
    response_body: Nullable(Type.String({ description: "The first kilobyte of the last response." })),
    error: Nullable(Type.String({ description: "The reason why the last attempt failed." })),
    duration_ms: Nullable(Type.Integer({ description: "Duration of the last attempt." })),
    created_at: Timestamp(),
    last_attempt_at: Nullable(Timestamp()),
    finished_at: Nullable(Timestamp()),
  }),
);
export type WebhookDelivery = Static<typeof WebhookDelivery>;

export const DeliveryQuery = Type.Object({ ...PageQuery, status: Type.Optional(OneOf(deliveryStatuses)) });
