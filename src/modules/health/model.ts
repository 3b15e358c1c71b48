import { type Static, Type } from "@sinclair/typebox";
import { Named, Nullable, Timestamp } from "../../lib/schema.ts";

export const Version = Named(
  "Version",
  Type.Object({
    version: Type.String(),
    commit: Type.String(),
    built_at: Nullable(Timestamp()),
    bun: Type.String({ description: "Version of the Bun runtime." }),
    postgres: Type.Optional(Type.String({ description: "Version of the database server, once it has been reached." })),
  }),
);
export type Version = Static<typeof Version>;
