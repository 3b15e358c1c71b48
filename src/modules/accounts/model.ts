import { type Static, Type } from "@sinclair/typebox";
import { PageQuery } from "../../http/pagination.ts";
import { Closed, Named, Text } from "../../lib/schema.ts";
import { CurrentPassword, DisplayNameInput, EmailInput, NewPassword, UserRole } from "../users/model.ts";

/** The longest search text, in UTF-16 units. */
const SEARCH_CHARS_MAX = 254;
/** Shown instead of a deleted user's name. */
export const DELETED_NAME = "Deleted user";

export const UserListQuery = Type.Object({
  ...PageQuery,
  q: Type.Optional(
    Text({ maxLength: SEARCH_CHARS_MAX, description: "Any part of an e-mail address or a name, in any case." }),
  ),
});

export const UserCreation = Named(
  "UserCreation",
  Closed({
    email: EmailInput,
    password: NewPassword,
    display_name: Type.Optional(DisplayNameInput),
    role: Type.Optional(UserRole),
  }),
);
export type UserCreation = Static<typeof UserCreation>;

export const UserChange = Named(
  "UserChange",
  Closed({
    role: Type.Optional(UserRole),
    disabled: Type.Optional(
      Type.Boolean({ description: "`true` ends all sessions of the user and blocks further logins." }),
    ),
    display_name: Type.Optional(DisplayNameInput),
    email: Type.Optional(EmailInput),
    password: Type.Optional(
      Type.String({ ...NewPassword, description: `${NewPassword.description} Ends all sessions of the user.` }),
    ),
  }),
);
export type UserChange = Static<typeof UserChange>;

/** The password of the user who deletes their account. Without it, their login must be less than 5 minutes old. */
export const PasswordProof = Named("PasswordProof", Closed({ current_password: Type.Optional(CurrentPassword) }));
