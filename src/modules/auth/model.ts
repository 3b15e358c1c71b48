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
      Text({ maxLength: 200, description: "Ignored. Accepted so that registration and login accept the same body." }),
    ),
  }),
);

const RefreshToken = Type.String({
  minLength: 1,
  maxLength: 200,
  description: `Works once. If it is used again after ${REFRESH_GRACE_S} s, the session ends.`,
});

export const Refresh = Named("Refresh", Closed({ refresh_token: RefreshToken }));

/** The response to a login: the user, and the session's two tokens. */
export const Tokens = Named(
  "Tokens",
  Type.Object({
    user: User,
    access_token: Type.String({ description: "Send it as `Authorization: Bearer …`." }),
    token_type: Type.Literal("Bearer"),
    expires_in: Type.Integer({
      description: "Seconds until the access token expires.",
      examples: [ACCESS_TOKEN_TTL_S],
    }),
    refresh_token: RefreshToken,
  }),
);
export type Tokens = Static<typeof Tokens>;

export const Ticket = Named(
  "Ticket",
  Type.Object({
    ticket: Type.String({ description: "Send it as `/realtime?ticket=…`. Works once." }),
    expires_in: Type.Integer({ description: "Seconds until the ticket expires.", examples: [TICKET_TTL_S] }),
  }),
);
export type Ticket = Static<typeof Ticket>;

export const PasswordChange = Named(
  "PasswordChange",
  Closed({
    current_password: CurrentPassword,
    new_password: NewPassword,
    revoke_api_keys: Type.Optional(
      Type.Boolean({ description: "`true` also deletes all of the user's API keys. By default, they keep working." }),
    ),
  }),
);
export type PasswordChange = Static<typeof PasswordChange>;

export const PasswordChanged = Named(
  "PasswordChanged",
  Type.Object({
    api_keys_active: Type.Integer({ minimum: 0, description: "Number of the user's API keys that still work." }),
  }),
);
export type PasswordChanged = Static<typeof PasswordChanged>;

/** A login on a device. */
export const Session = Named(
  "Session",
  Type.Object({
    id: Uuid(),
    current: Type.Boolean({ description: "Whether this session made the request." }),
    user_agent: Nullable(Type.String()),
    ip_address: Nullable(Type.String({ description: "The IP address of the login." })),
    created_at: Timestamp(),
    last_used_at: Timestamp({ description: "Time of the login or the latest refresh." }),
    expires_at: Timestamp({ description: "When the session expires unless it is refreshed." }),
  }),
);
export type Session = Static<typeof Session>;

/** Why a session was ended before it expired. */
export type SessionEndReason =
  | "logout"
  | "ended"
  | "password_changed"
  | "token_reused"
  | "quota_exceeded"
  | "user_disabled"
  | "user_deleted";

/** The client that logs in. The signal is aborted when the client disconnects. */
export type Client = { userAgent: string | null; ipAddress: string | null; signal?: AbortSignal };

export { Identity, IdentityLink, IdentityList, IssuerLogin } from "./oidc/model.ts";
