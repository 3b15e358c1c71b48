import { Type } from "@sinclair/typebox";
import { type Route, route } from "../../http/route.ts";
import { Uuid } from "../../lib/schema.ts";
import { Identity, IdentityLink, IdentityList } from "../auth/model.ts";
import type { AuthService } from "../auth/service.ts";

const IDENTITIES = "/api/v1/me/identities";
const tag = "me";

/** Creates the routes for the caller's identities at the OpenID Connect issuer. */
export const createIdentityRoutes = ({ auth }: { auth: AuthService }): Route[] => [
  route({
    method: "GET",
    path: IDENTITIES,
    operationId: "listMyIdentities",
    summary: "List my identities at the issuer",
    tag,
    scope: "session",
    ok: IdentityList,
    handle: async ({ caller }) => ({ data: await auth.listIdentities(caller), next_cursor: null }),
  }),

  route({
    method: "POST",
    path: IDENTITIES,
    operationId: "linkMyIdentity",
    summary: "Link an identity at the issuer to my account",
    description: "Requires the password, because a session alone must not be enough to add another way to log in.",
    tag,
    scope: "session",
    body: IdentityLink,
    ok: Identity,
    status: 201,
    problems: [404, 409],
    handle: ({ caller, body }) => auth.linkIdentity(caller, body.token, body.password),
  }),

  route({
    method: "DELETE",
    path: `${IDENTITIES}/:id`,
    operationId: "unlinkMyIdentity",
    summary: "Unlink an identity from my account",
    description:
      "Revokes every session that was created with the issuer's tokens. If an identity is your only way to log in, it can't be unlinked.",
    tag,
    scope: "session",
    params: Type.Object({ id: Uuid() }),
    problems: [409],
    handle: ({ caller, params }) => auth.unlinkIdentity(caller, params.id),
  }),
];
