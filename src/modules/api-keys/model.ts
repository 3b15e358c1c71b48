import { type Static, Type } from "@sinclair/typebox";
import { scopes } from "../../access/scopes.ts";
import { Closed, Named, Nullable, OneOf, Timestamp, Uuid, VisibleLine } from "../../lib/schema.ts";
import { NAME_CHARS_MAX } from "./limits.ts";

const ScopeName = OneOf(scopes);
const Name = VisibleLine({
  minLength: 1,
  maxLength: NAME_CHARS_MAX,
  description: "What it is for.",
  examples: ["backend"],
});
const Service = { description: "Whether it may act for users by `X-On-Behalf-Of`." };

/** A key as its owner sees it: the key itself is nowhere. */
export const ApiKey = Named(
  "ApiKey",
  Type.Object({
    id: Uuid(),
    name: Type.String(),
    prefix: Type.String({ description: "How the key begins.", examples: ["pk_3kTq"] }),
    last_four: Type.String({ description: "How it ends." }),
    scopes: Type.Array(ScopeName),
    service: Type.Boolean(Service),
    expires_at: Nullable(Timestamp()),
    last_used_at: Nullable(Timestamp({ description: "To the minute." })),
    created_at: Timestamp(),
  }),
);
export type ApiKey = Static<typeof ApiKey>;

/** A new key; the only answer that ever shows it. */
export const CreatedApiKey = Named(
  "CreatedApiKey",
  Type.Object({
    ...ApiKey.properties,
    key: Type.String({ description: "The key. It is not stored, and not shown again." }),
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
      description: "What it may do; `admin` stands for all, and only administrators may give it.",
      examples: [["messages:read", "messages:write"]],
    }),
    expires_at: Type.Optional(Nullable(Timestamp({ description: "In the future. Absent: it does not expire." }))),
    service: Type.Optional(Type.Boolean({ ...Service, default: false })),
  }),
);
export type CreateApiKey = Static<typeof CreateApiKey>;
