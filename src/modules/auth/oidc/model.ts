import { type Static, Type } from "@sinclair/typebox";
import { Closed, Named, Text, Timestamp, Uuid } from "../../../lib/schema.ts";
import { CurrentPassword } from "../../users/model.ts";
import { ISSUER_TOKEN_CHARS_MAX } from "./limits.ts";

const IssuerToken = Text({
  minLength: 1,
  maxLength: ISSUER_TOKEN_CHARS_MAX,
  description: "A JWT that the issuer issued for this server: an ID token or an access token.",
});

export const IssuerLogin = Named("IssuerLogin", Closed({ token: IssuerToken }));

export const IdentityLink = Named("IdentityLink", Closed({ token: IssuerToken, password: CurrentPassword }));

/** A user's identity at the issuer. */
export const Identity = Named(
  "Identity",
  Type.Object({
    id: Uuid(),
    issuer: Type.String(),
    subject: Type.String({ description: "The `sub` of the issuer's tokens." }),
    created_at: Timestamp(),
  }),
);
export type Identity = Static<typeof Identity>;

export const IdentityList = Named(
  "IdentityList",
  Type.Object({ data: Type.Array(Identity), next_cursor: Type.Null() }),
);
