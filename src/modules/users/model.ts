import { type Static, Type } from "@sinclair/typebox";
import { Closed, Named } from "../../lib/schema.ts";
import { DisplayNameInput } from "./display-name.ts";
import { EmailInput } from "./email.ts";
import { CurrentPassword } from "./passwords.ts";

export { User, UserRole } from "../../protocol/user.ts";
// Re-exported for the schemas of other modules.
export { DisplayNameInput } from "./display-name.ts";
export { EmailInput } from "./email.ts";
export { CurrentPassword, NewPassword } from "./passwords.ts";

/** Maximum size of a user's preferences, in UTF-8 bytes of JSON. */
export const PREFERENCES_BYTES_MAX = 16 * 1024;

export const ProfileChange = Named(
  "ProfileChange",
  Closed({
    display_name: Type.Optional(DisplayNameInput),
    email: Type.Optional(EmailInput),
    current_password: Type.Optional(
      Type.String({
        ...CurrentPassword,
        description: "Required to change `email`, unless the user logged in within the last 5 minutes.",
      }),
    ),
  }),
);
export type ProfileChange = Static<typeof ProfileChange>;

/** Preferences, which clients may use for any purpose. Parley uses them only in prompt templates. */
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
