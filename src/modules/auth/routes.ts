import type { Server } from "bun";
import type { GetClientAddress } from "../../http/client-address.ts";
import { type Route, route } from "../../http/route.ts";
import { type Client, IssuerLogin, Login, Refresh, Registration, Ticket, Tokens } from "./model.ts";
import type { AuthService } from "./service.ts";

const AUTH = "/api/v1/auth";
const tag = "auth";

type Dependencies = { auth: AuthService; getClientAddress: GetClientAddress };

/** Creates the routes of `/api/v1/auth`: registration, login and tokens. */
export function createAuthRoutes({ auth, getClientAddress }: Dependencies): Route[] {
  const getClient = (request: Request, server: Server<unknown> | null): Client => ({
    userAgent: request.headers.get("user-agent"),
    ipAddress: getClientAddress(request, server),
    signal: request.signal,
  });
  return [
    route({
      method: "POST",
      path: `${AUTH}/register`,
      operationId: "register",
      summary: "Create an account and log in",
      tag,
      public: true,
      limit: "auth",
      body: Registration,
      ok: Tokens,
      status: 201,
      problems: [403, 409],
      handle: ({ body, request, server }) => auth.register(body, getClient(request, server)),
    }),

    route({
      method: "POST",
      path: `${AUTH}/login`,
      operationId: "login",
      summary: "Log in",
      tag,
      public: true,
      limit: "auth",
      body: Login,
      ok: Tokens,
      problems: [401, 403],
      handle: ({ body, request, server }) => auth.login(body, getClient(request, server)),
    }),

    route({
      method: "POST",
      path: `${AUTH}/refresh`,
      operationId: "refreshTokens",
      summary: "Exchange a refresh token for new tokens",
      description: "Each refresh token works once. Use the new one afterwards. Later reuse ends the session.",
      tag,
      public: true,
      limit: "renew",
      body: Refresh,
      ok: Tokens,
      problems: [401],
      handle: ({ body, request, server }) => auth.refresh(body.refresh_token, getClientAddress(request, server)),
    }),

    route({
      method: "POST",
      path: `${AUTH}/logout`,
      operationId: "logout",
      summary: "End the session of a refresh token",
      tag,
      public: true,
      limit: "renew",
      body: Refresh,
      handle: ({ body, request, server }) => auth.logout(body.refresh_token, getClientAddress(request, server)),
    }),

    route({
      method: "POST",
      path: `${AUTH}/ticket`,
      operationId: "createTicket",
      summary: "Get a one-time ticket for a browser's WebSocket",
      tag,
      scope: "any",
      limit: "renew",
      idempotencyKey: "ignored",
      ok: Ticket,
      handle: ({ caller }) => auth.createTicket(caller),
    }),

    route({
      method: "POST",
      path: `${AUTH}/oidc`,
      operationId: "loginByIssuer",
      summary: "Log in with a token from the OpenID Connect issuer",
      description: "A new identity gets an account. Returns 404 if `OIDC_ISSUER` is not set.",
      tag,
      public: true,
      limit: "auth",
      body: IssuerLogin,
      ok: Tokens,
      problems: [401, 403, 404, 409],
      handle: ({ body, request, server }) => auth.loginWithIssuer(body.token, getClient(request, server)),
    }),
  ];
}
