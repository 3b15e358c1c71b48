import { type Static, Type } from "@sinclair/typebox";
import { Closed, OneOf, Timestamp, Uuid } from "../../lib/schema.ts";
import { DisplayNameInput } from "./display-name.ts";
import { EmailInput } from "./email.ts";

// Inputs that other modules take, too.
export { DisplayNameInput } from "./display-name.ts";
export { EmailInput } from "./email.ts";
export { CurrentPassword, NewPassword } from "./passwords.ts";

/** Of the preferences of one user, as JSON in UTF-8. */
export const PREFERENCES_BYTES_MAX = 16 * 1024;

export const UserRole = OneOf(["user", "admin"]);
export type UserRole = Static<typeof UserRole>;

/** A user as they see themselves, and as administrators see them. */
export const User = Type.Object({
  id: Uuid(),
  email: Type.String(),
  display_name: Type.String(),
  role: UserRole,
  disabled: Type.Boolean(),
  created_at: Timestamp(),
});
export type User = Static<typeof User>;

export const ProfileChange = Closed({
  display_name: Type.Optional(DisplayNameInput),
  email: Type.Optional(EmailInput),
});
export type ProfileChange = Static<typeof ProfileChange>;

/** Free for clients to use; Parley offers them to prompt templates. */
export const Preferences = Type.Unsafe<Record<string, unknown>>(
  Type.Object(
    {},
    {
      additionalProperties: true,
      description: `Any JSON object of up to ${PREFERENCES_BYTES_MAX} bytes.`,
      examples: [{ theme: "dark" }],
    },
  ),
);
export type Preferences = Static<typeof Preferences>;
