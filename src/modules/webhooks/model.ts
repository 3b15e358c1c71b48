import { type Static, type TString, Type } from "@sinclair/typebox";
import { PageQuery } from "../../http/pagination.ts";
import { Closed, Named, Nullable, OneOf, Timestamp, Uuid, VisibleText } from "../../lib/schema.ts";
import { durableEvents } from "../../protocol/events.ts";

/** Maximum length of a URL, in UTF-16 units. */
const URL_CHARS_MAX = 2_000;
/** Maximum length of a description, in UTF-16 units. */
const DESCRIPTION_CHARS_MAX = 500;

/** Events that aren't part of a conversation's log. */
const systemEventTypes = [
  "generation.failed",
  "user.created",
  "user.deleted",
  "budget.exceeded",
  "webhook.disabled",
] as const;

/** Subscribes to every event, including those of later versions. */
export const ALL_EVENTS = "*";
/** The event that `POST /webhooks/{id}/test` sends. Webhooks can't subscribe to it. */
export const TEST_EVENT = "webhook.test";

/** Every event that a webhook can subscribe to. */
export const webhookEventTypes = [...Object.keys(durableEvents), ...systemEventTypes];

const Url = Type.String({
  minLength: 1,
  maxLength: URL_CHARS_MAX,
  description: "The URL to which events are posted: `https`, or `http` without encryption.",
  examples: ["https://example.com/parley"],
});
const Events = (description = "The event types to deliver, or `*` alone for all of them.") =>
  Type.Array(OneOf([ALL_EVENTS, ...webhookEventTypes]), {
    minItems: 1,
    maxItems: webhookEventTypes.length,
    description,
    examples: [["message.created", "message.completed"]],
  });
const Description = Nullable(VisibleText({ maxLength: DESCRIPTION_CHARS_MAX }), {
  description: "A note for people; Parley doesn't use it.",
});

const DisabledReason = OneOf(["gone", "exhausted", "user"], {
  description:
    "`gone`: the receiver responded with 410. `exhausted`: every attempt of a delivery failed. `user`: its owner disabled it.",
});

/** A webhook as its owner sees it, without its secret. */
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
      Timestamp({ description: "Until when deliveries are also signed with the previous secret, after a rotation." }),
    ),
    created_at: Timestamp(),
    updated_at: Timestamp(),
  }),
);
export type Webhook = Static<typeof Webhook>;

const Secret = (): TString =>
  Type.String({
    description: "Signs the deliveries (Standard Webhooks). Shown only once.",
    examples: ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
  });

/** A webhook with a new secret. Only the responses to its creation and to a rotation contain the secret. */
export const WebhookWithSecret = Named("WebhookWithSecret", Type.Object({ ...Webhook.properties, secret: Secret() }));
export type WebhookWithSecret = Static<typeof WebhookWithSecret>;

export const CreateWebhook = Named(
  "CreateWebhook",
  Closed({ url: Url, events: Events(), description: Type.Optional(Description) }),
);
export type CreateWebhook = Static<typeof CreateWebhook>;

export const ChangeWebhook = Named(
  "ChangeWebhook",
  Closed({
    url: Type.Optional(Url),
    events: Type.Optional(Events()),
    description: Type.Optional(Description),
    disabled: Type.Optional(
      Type.Boolean({
        description:
          "`true` stops deliveries and fails pending ones. `false` enables the webhook again, regardless of why it was disabled.",
      }),
    ),
  }),
);
export type ChangeWebhook = Static<typeof ChangeWebhook>;

const deliveryStatuses = ["pending", "delivered", "failed"] as const;
export type DeliveryStatus = (typeof deliveryStatuses)[number];

/** The delivery of one event to one webhook. */
export const WebhookDelivery = Named(
  "WebhookDelivery",
  Type.Object({
    id: Uuid({ description: "The `webhook-id` header: the same in every attempt." }),
    type: Type.String({ description: "The event type." }),
    conversation_id: Nullable(Uuid()),
    seq: Nullable(Type.Integer({ description: "The event's `seq` in its conversation." })),
    status: OneOf(deliveryStatuses),
    attempts: Type.Integer(),
    next_attempt_at: Nullable(Timestamp({ description: "When a pending delivery is attempted next." })),
    response_status: Nullable(Type.Integer({ description: "HTTP status of the last response." })),
    response_body: Nullable(Type.String({ description: "The first kilobyte of the last response." })),
    error: Nullable(Type.String({ description: "Why the last attempt failed." })),
    duration_ms: Nullable(Type.Integer({ description: "Duration of the last attempt." })),
    created_at: Timestamp(),
    last_attempt_at: Nullable(Timestamp()),
    finished_at: Nullable(Timestamp()),
  }),
);
export type WebhookDelivery = Static<typeof WebhookDelivery>;

export const DeliveryQuery = Type.Object({ ...PageQuery, status: Type.Optional(OneOf(deliveryStatuses)) });
