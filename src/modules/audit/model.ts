/** What is written down, as `noun.verb`. */
export const auditActions = [
  "user.registered",
  "user.created",
  "user.logged_in",
  "user.login_failed",
  "user.login_limited",
  "user.identity_linked",
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
] as const;
export type AuditAction = (typeof auditActions)[number];

export type AuditTarget = "user" | "session" | "api_key";

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
