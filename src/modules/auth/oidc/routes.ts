import { Type } from "@sinclair/typebox";
import type { Server } from "bun";
import { type Route, route } from "../../../http/route.ts";
import { Uuid } from "../../../lib/schema.ts";
import { type Client, Tokens } from "../model.ts";
import type { AuthService } from "../service.ts";
import { Identity, IdentityLink, IdentityList, IssuerLogin } from "./model.ts";

const IDENTITIES = "/api/v1/me/identities";
const tag = "me";

type Dependencies = {
  auth: AuthService;
  readClient(request: Request, server: Server<unknown> | null): Client;
};

/** Login by a token of the issuer, and as whom a user is known there. */
export const createIssuerRoutes = ({ auth, readClient }: Dependencies): Route[] => [
  route({
    method: "POST",
    path: "/api/v1/auth/oidc",
    operationId: "loginByIssuer",
    summary: "Log in with a token of the OpenID Connect issuer",
    description: "Whoever is seen for the first time gets an account. 404 where no `OIDC_ISSUER` is set.",
    tag: "auth",
    public: true,
    limit: "auth",
    body: IssuerLogin,
    ok: Tokens,
    problems: [401, 403, 404, 409],
    handle: ({ body, request, server }) => auth.loginByIssuer(body.token, readClient(request, server)),
  }),

  route({
    method: "GET",
    path: IDENTITIES,
    operationId: "listMyIdentities",
    summary: "As whom I am known to the issuer",
    tag,
    scope: "session",
    ok: IdentityList,
    handle: async ({ caller }) => ({ data: await auth.listIdentities(caller), next_cursor: null }),
  }),

  route({
    method: "POST",
    path: IDENTITIES,
    operationId: "linkMyIdentity",
    summary: "Let somebody of the issuer log in to my account",
    description: "Needs the password: a session alone must not be enough to open a second way in.",
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
    summary: "Take an identity from my account",
    description: "Ends every session that was opened by the issuer's tokens. The only way in cannot be taken away.",
    tag,
    scope: "session",
    params: Type.Object({ id: Uuid() }),
    problems: [409],
    handle: ({ caller, params }) => auth.unlinkIdentity(caller, params.id),
  }),
];
