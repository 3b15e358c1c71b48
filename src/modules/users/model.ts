import { type Static, Type } from "@sinclair/typebox";
import { Closed, Named } from "../../lib/schema.ts";
import { DisplayNameInput } from "./display-name.ts";
import { EmailInput } from "./email.ts";
import { CurrentPassword } from "./passwords.ts";

export { User, UserRole } from "../../protocol/user.ts";
// Shared with other modules' inputs.
export { DisplayNameInput } from "./display-name.ts";
export { EmailInput } from "./email.ts";
export { CurrentPassword, NewPassword } from "./passwords.ts";

/** JSON bytes (UTF-8) of one user's preferences. */
export const PREFERENCES_BYTES_MAX = 16 * 1024;

export const ProfileChange = Named(
  "ProfileChange",
  Closed({
    display_name: Type.Optional(DisplayNameInput),
    email: Type.Optional(EmailInput),
    current_password: Type.Optional(
      Type.String({
        ...CurrentPassword,
        description: "Required to change `email`, unless the login is younger than 5 minutes.",
      }),
    ),
  }),
);
export type ProfileChange = Static<typeof ProfileChange>;

/** Freely usable by clients; Parley passes them to prompt templates. */
export const Preferences = Named(
  "Preferences",
  Type.Unsafe<Record<string, unknown>>(
    Type.Object(
      {},
      {
        additionalProperties: true,
        description: `Any JSON object of up to ${PREFERENCES_BYTES_MAX} bytes.`,
        examples: [{ theme: "dark" }],
      },
    ),
  ),
);
export type Preferences = Static<typeof Preferences>;
