import { type Static, Type } from "@sinclair/typebox";
import { PageQuery } from "../../http/pagination.ts";
import { Closed, Named, Text } from "../../lib/schema.ts";
import { CurrentPassword, DisplayNameInput, EmailInput, NewPassword, UserRole } from "../users/model.ts";

/** The maximum length of a search string, in UTF-16 code units. */
const SEARCH_CHARS_MAX = 254;
/** Shown instead of a deleted user's name. */
export const DELETED_NAME = "Deleted user";

export const UserListQuery = Type.Object({
  ...PageQuery,
  q: Type.Optional(
    Text({ maxLength: SEARCH_CHARS_MAX, description: "Any part of an email address or name. Case-insensitive." }),
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
      Type.Boolean({ description: "`true` ends all of the user's sessions and blocks further logins." }),
    ),
    display_name: Type.Optional(DisplayNameInput),
    email: Type.Optional(EmailInput),
    password: Type.Optional(
      Type.String({ ...NewPassword, description: `${NewPassword.description} Ends all of the user's sessions.` }),
    ),
  }),
);
export type UserChange = Static<typeof UserChange>;

/** The password of the user who deletes their account. If it is missing, their login must be less than 5 minutes old. */
export const PasswordProof = Named("PasswordProof", Closed({ current_password: Type.Optional(CurrentPassword) }));
