import { type Static, Type } from "@sinclair/typebox";
import { scopes } from "../../access/scopes.ts";
import { Closed, Named, Nullable, OneOf, Timestamp, Uuid, VisibleLine } from "../../lib/schema.ts";
import { NAME_CHARS_MAX } from "./limits.ts";

const ScopeName = OneOf(scopes);
const Name = VisibleLine({
  minLength: 1,
  maxLength: NAME_CHARS_MAX,
  description: "What the key is for.",
  examples: ["backend"],
});
const Service = { description: "Whether the key may act for users with `X-On-Behalf-Of`." };

/** A key as shown to its owner, without the secret. */
export const ApiKey = Named(
  "ApiKey",
  Type.Object({
    id: Uuid(),
    name: Type.String(),
    prefix: Type.String({ description: "The first characters of the key.", examples: ["pk_3kTq"] }),
    last_four: Type.String({ description: "The last characters of the key." }),
    scopes: Type.Array(ScopeName),
    service: Type.Boolean(Service),
    expires_at: Nullable(Timestamp()),
    last_used_at: Nullable(Timestamp({ description: "Accurate to the minute." })),
    created_at: Timestamp(),
  }),
);
export type ApiKey = Static<typeof ApiKey>;

/** A new key. No other response contains the secret. */
export const CreatedApiKey = Named(
  "CreatedApiKey",
  Type.Object({
    ...ApiKey.properties,
    key: Type.String({ description: "The key. It isn't stored and is shown only once." }),
  }),
);
export type CreatedApiKey = Static<typeof CreatedApiKey>;

export const CreateApiKey = Named(
  "CreateApiKey",
  Closed({
    name: Name,
    scopes: Type.Array(ScopeName, {
      minItems: 1,
      maxItems: scopes.length,
      description: "What the key may do. `admin` includes all scopes; only administrators may grant it.",
      examples: [["messages:read", "messages:write"]],
    }),
    expires_at: Type.Optional(
      Nullable(Timestamp({ description: "Must be in the future. If absent, the key doesn't expire." })),
    ),
    service: Type.Optional(Type.Boolean({ ...Service, default: false })),
  }),
);
export type CreateApiKey = Static<typeof CreateApiKey>;
