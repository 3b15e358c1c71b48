import { Type } from "@sinclair/typebox";
import { Elysia } from "elysia";
import type { Authenticate } from "../../../http/authenticate.ts";
import type { ReadClientAddress } from "../../../http/client-address.ts";
import { describe } from "../../../http/openapi.ts";
import type { RateLimit } from "../../../http/rate-limit.ts";
import { Uuid } from "../../../lib/schema.ts";
import { Tokens } from "../model.ts";
import type { AuthService } from "../service.ts";
import { Identity, IdentityLink, IssuerLogin } from "./model.ts";

type IssuerRoutesDependencies = {
  auth: AuthService;
  authenticate: Authenticate;
  readClientAddress: ReadClientAddress;
  limitRoute: RateLimit["ofRoute"];
};

/** Login by a token of the issuer, and as whom a user is known there. */
export function createIssuerRoutes({ auth, authenticate, readClientAddress, limitRoute }: IssuerRoutesDependencies) {
  return new Elysia({ name: "auth-oidc" })
    .use(limitRoute)
    .post(
      "/auth/oidc",
      ({ body, request, server, set }) => {
        set.headers["cache-control"] = "no-store";
        const client = { userAgent: request.headers.get("user-agent"), ipAddress: readClientAddress(request, server) };
        return auth.loginByIssuer(body.token, client);
      },
      {
        body: IssuerLogin,
        ...describe({
          operationId: "loginByIssuer",
          limit: "auth",
          summary: "Log in with a token of the OpenID Connect issuer",
          description: "Whoever is seen for the first time gets an account. 404 where no `OIDC_ISSUER` is set.",
          tag: "auth",
          ok: Tokens,
          public: true,
          problems: [401, 403, 404, 409],
        }),
      },
    )
    .use(authenticate)
    .get(
      "/me/identities",
      async ({ caller }) => ({ data: await auth.listIdentities(caller), next_cursor: null }),
      describe({
        operationId: "listMyIdentities",
        scope: "session",
        summary: "As whom I am known to the issuer",
        tag: "me",
        ok: Type.Object({ data: Type.Array(Identity), next_cursor: Type.Null() }),
      }),
    )
    .post(
      "/me/identities",
      async ({ caller, body, set }) => {
        const identity = await auth.linkIdentity(caller, body.token, body.password);
        set.status = 201;
        return identity;
      },
      {
        body: IdentityLink,
        ...describe({
          operationId: "linkMyIdentity",
          scope: "session",
          summary: "Let somebody of the issuer log in to my account",
          description: "Needs the password: a session alone must not be enough to open a second way in.",
          tag: "me",
          ok: Identity,
          status: 201,
          problems: [404, 409],
        }),
      },
    )
    .delete(
      "/me/identities/:id",
      async ({ caller, params, set }) => {
        await auth.unlinkIdentity(caller, params.id);
        set.status = 204;
      },
      {
        params: Type.Object({ id: Uuid() }),
        ...describe({
          operationId: "unlinkMyIdentity",
          scope: "session",
          summary: "Take an identity from my account",
          description:
            "Ends every session that was opened by the issuer's tokens. The only way in cannot be taken away.",
          tag: "me",
          problems: [409],
        }),
      },
    );
}
