import { type Static, Type } from "@sinclair/typebox";
import { PageQuery } from "../../http/pagination.ts";
import { Named, Nullable, OneOf, Timestamp, Uuid } from "../../lib/schema.ts";

/** What is written down, as `noun.verb`. */
const auditActions = [
  "user.registered",
  "user.registration_refused",
  "user.created",
  "user.logged_in",
  "user.login_failed",
  "user.login_limited",
  "user.identity_linked",
  "user.identity_unlinked",
  "user.changed",
  "user.role_changed",
  "user.disabled",
  "user.enabled",
  "user.password_changed",
  "user.exported",
  "user.deleted",
  "session.ended",
  "session.token_reused",
  "api_key.created",
  "api_key.deleted",
  "api_key.acted_for",
  "hook.created",
  "hook.deleted",
  "webhook.created",
  "webhook.changed",
  "webhook.secret_rotated",
  "webhook.disabled",
  "webhook.deleted",
] as const;
export type AuditAction = (typeof auditActions)[number];

const auditTargets = ["user", "session", "api_key", "hook", "webhook"] as const;
export type AuditTarget = (typeof auditTargets)[number];

export type AuditEntry = {
  action: AuditAction;
  /** Whose doing it was; null when nobody was known, or the operator did it on the command line. */
  actorId: string | null;
  /** The session or API key it was done with. */
  credentialId: string | null;
  target: { type: AuditTarget; id: string } | null;
  ipAddress: string | null;
  /** Plain facts; never a secret, a name or an address of a person. */
  details?: Record<string, string | number | boolean | null>;
};

/** An entry as administrators read it. */
export const AuditEvent = Named(
  "AuditEvent",
  Type.Object({
    id: Uuid(),
    action: OneOf(auditActions),
    actor_id: Nullable(Uuid(), { description: "Whose doing it was; null: nobody known, or the operator." }),
    credential_id: Nullable(Uuid(), { description: "The session or API key it was done with." }),
    target: Nullable(Type.Object({ type: OneOf(auditTargets), id: Uuid() })),
    ip_address: Nullable(
      Type.String({ description: "Where the request came from, unless that was a user who is gone." }),
    ),
    details: Type.Record(Type.String(), Type.Unknown()),
    at: Timestamp(),
  }),
);
export type AuditEvent = Static<typeof AuditEvent>;

export const AuditQuery = Type.Object({
  ...PageQuery,
  action: Type.Optional(OneOf(auditActions)),
  actor_id: Type.Optional(Uuid()),
  target_id: Type.Optional(Uuid()),
  from: Type.Optional(Timestamp({ description: "Start of the span, inclusive." })),
  to: Type.Optional(Timestamp({ description: "End of the span, exclusive." })),
});

export type AuditFilter = {
  action: AuditAction | undefined;
  actorId: string | undefined;
  targetId: string | undefined;
  from: Date | undefined;
  to: Date | undefined;
};
