import { type Static, Type } from "@sinclair/typebox";
import { Closed, Named, Nullable, Text, Timestamp, Uuid } from "../../lib/schema.ts";
import { CurrentPassword, DisplayNameInput, EmailInput, NewPassword, User } from "../users/model.ts";
import { ACCESS_TOKEN_TTL_S, REFRESH_GRACE_S, TICKET_TTL_S } from "./limits.ts";

export const Registration = Named(
  "Registration",
  Closed({
    email: EmailInput,
    password: NewPassword,
    display_name: Type.Optional(DisplayNameInput),
  }),
);

export const Login = Named(
  "Login",
  Closed({
    email: EmailInput,
    password: CurrentPassword,
    display_name: Type.Optional(
      Text({ maxLength: 200, description: "Not looked at; allowed so that both ways in take the same body." }),
    ),
  }),
);

const RefreshToken = Type.String({
  minLength: 1,
  maxLength: 200,
  description: `Good for one refresh; shown again after more than ${REFRESH_GRACE_S} s it ends the session.`,
});

export const Refresh = Named("Refresh", Closed({ refresh_token: RefreshToken }));

/** What a login gives: the user, and the two tokens of a session. */
export const Tokens = Named(
  "Tokens",
  Type.Object({
    user: User,
    access_token: Type.String({ description: "Send it as `Authorization: Bearer …`." }),
    token_type: Type.Literal("Bearer"),
    expires_in: Type.Integer({ description: "Seconds until the access token ends.", examples: [ACCESS_TOKEN_TTL_S] }),
    refresh_token: RefreshToken,
  }),
);
export type Tokens = Static<typeof Tokens>;

export const Ticket = Named(
  "Ticket",
  Type.Object({
    ticket: Type.String({ description: "For `/realtime?ticket=…`, once." }),
    expires_in: Type.Integer({ description: "Seconds.", examples: [TICKET_TTL_S] }),
  }),
);
export type Ticket = Static<typeof Ticket>;

export const PasswordChange = Named(
  "PasswordChange",
  Closed({
    current_password: CurrentPassword,
    new_password: NewPassword,
    revoke_api_keys: Type.Optional(
      Type.Boolean({ description: "`true` deletes all API keys of the user as well. Absent: they go on working." }),
    ),
  }),
);
export type PasswordChange = Static<typeof PasswordChange>;

export const PasswordChanged = Named(
  "PasswordChanged",
  Type.Object({
    api_keys_active: Type.Integer({ minimum: 0, description: "API keys of the user that still work." }),
  }),
);
export type PasswordChanged = Static<typeof PasswordChanged>;

/** One login on one device. */
export const Session = Named(
  "Session",
  Type.Object({
    id: Uuid(),
    current: Type.Boolean({ description: "Whether this request was made with it." }),
    user_agent: Nullable(Type.String()),
    ip_address: Nullable(Type.String({ description: "Where the login came from." })),
    created_at: Timestamp(),
    last_used_at: Timestamp({ description: "The latest login or refresh." }),
    expires_at: Timestamp({ description: "When it ends unless it is refreshed." }),
  }),
);
export type Session = Static<typeof Session>;

/** Why a session ended before its time. */
export type EndReason =
  | "logout"
  | "ended"
  | "password_changed"
  | "token_reused"
  | "quota_exceeded"
  | "user_disabled"
  | "user_deleted";

/** Where a login comes from; the signal is aborted when the client goes away. */
export type Client = { userAgent: string | null; ipAddress: string | null; signal?: AbortSignal };

export { Identity, IdentityLink, IdentityList, IssuerLogin } from "./oidc/model.ts";
