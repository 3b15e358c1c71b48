import { type Static, Type } from "@sinclair/typebox";
import { Closed, Named, OneOf, Timestamp, Uuid } from "../lib/schema.ts";

export const UserRole = OneOf(["user", "admin"]);
export type UserRole = Static<typeof UserRole>;

/** A user, as seen by themselves and by administrators. */
export const User = Named(
  "User",
  Closed({
    id: Uuid(),
    email: Type.String(),
    display_name: Type.String(),
    role: UserRole,
    disabled: Type.Boolean(),
    created_at: Timestamp(),
  }),
);
export type User = Static<typeof User>;
