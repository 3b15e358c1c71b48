import { type Static, Type } from "@sinclair/typebox";
import { PageQuery } from "../../http/pagination.ts";
import { Named, Nullable, OneOf, Timestamp, Uuid } from "../../lib/schema.ts";

/** The recorded actions, as `noun.verb`. */
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
  /** The acting user. Null if unknown, or if the operator did it on the command line. */
  actorId: string | null;
  /** The session or API key that was used. */
  credentialId: string | null;
  target: { type: AuditTarget; id: string } | null;
  ipAddress: string | null;
  /** Details of the action. They must not contain secrets, people's names or email addresses. */
  details?: Record<string, string | number | boolean | null>;
};

/** An audit log entry, as returned to administrators. */
export const AuditEvent = Named(
  "AuditEvent",
  Type.Object({
    id: Uuid(),
    action: OneOf(auditActions),
    actor_id: Nullable(Uuid(), {
      description: "The user who performed the action. Null if unknown, or if the operator performed it.",
    }),
    credential_id: Nullable(Uuid(), { description: "The session or API key that was used." }),
    target: Nullable(Type.Object({ type: OneOf(auditTargets), id: Uuid() })),
    ip_address: Nullable(
      Type.String({ description: "The IP address of the request. Erased when the user is deleted." }),
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
  from: Type.Optional(Timestamp({ description: "Start of the time range, inclusive." })),
  to: Type.Optional(Timestamp({ description: "End of the time range, exclusive." })),
});

export type AuditFilter = {
  action: AuditAction | undefined;
  actorId: string | undefined;
  targetId: string | undefined;
  from: Date | undefined;
  to: Date | undefined;
};
