import { Elysia } from "elysia";
import { createAuthenticationPlugin } from "../../src/http/authenticate.ts";
import { checkAccess } from "../../src/http/check-access.ts";
import { createClientAddressLookup } from "../../src/http/client-address.ts";
import { createErrorHandler } from "../../src/http/error-handler.ts";
import { mount } from "../../src/http/mount.ts";
import { requestIdPlugin } from "../../src/http/request-id.ts";
import { createSecurityHeadersPlugin } from "../../src/http/security-headers.ts";
import { createFetch } from "../../src/lib/outgoing/create-fetch.ts";
import { noProxy } from "../../src/lib/outgoing/find-proxy.ts";
import { noLoginGuard } from "../../src/limits/login-guard.ts";
import { Slots } from "../../src/limits/slots.ts";
import { createApiKeyService } from "../../src/modules/api-keys/service.ts";
import { createAuditService } from "../../src/modules/audit/service.ts";
import type { SessionEndReason, Tokens } from "../../src/modules/auth/model.ts";
import type { KeyTimes } from "../../src/modules/auth/oidc/limits.ts";
import { createAuthRoutes } from "../../src/modules/auth/routes.ts";
import { createAuthService } from "../../src/modules/auth/service.ts";
import { createIdentityRoutes } from "../../src/modules/me/identity-routes.ts";
import { createProfileRoutes } from "../../src/modules/me/profile-routes.ts";
import { createSessionRoutes } from "../../src/modules/me/session-routes.ts";
import { createPasswordHasher } from "../../src/modules/users/passwords.ts";
import { createUserService } from "../../src/modules/users/service.ts";
import { silentLog } from "../support/log.ts";
import { createTestDatabase } from "../support/postgres.ts";

export const JWT_SECRET = "a secret for tests that is long enough";
export const PASSWORD = "correct horse battery";

/** The settings for an OIDC issuer. */
type IssuerSettings = {
  issuer: string;
  audience: string[];
  jwksUrl: string | undefined;
  isProvisioning: boolean;
  times?: KeyTimes;
};
type AccountsOptions = {
  registration?: "open" | "closed";
  /** Whether REGISTRATION_PRIVACY is on. */
  isPrivate?: boolean;
  issuer?: IssuerSettings | null;
  trustedProxies?: string[];
  database?: Awaited<ReturnType<typeof createTestDatabase>>["database"];
};
type RequestOptions = { token?: string; method?: string; json?: unknown; headers?: Record<string, string> };

/** Starts a server with only the account routes and with cheap password hashing. Returns its services. */
export async function startAccounts({
  registration = "open",
  isPrivate = false,
  issuer = null,
  trustedProxies = [],
  ...options
}: AccountsOptions = {}) {
  const database = options.database ?? (await createTestDatabase()).database;
  const endedSessions: { ids: string[]; reason: SessionEndReason }[] = [];
  const audit = createAuditService();
  const users = createUserService({
    database,
    passwords: createPasswordHasher({ memoryKib: 64, iterations: 1 }),
    audit,
  });
  const onSessionsEnded = (ids: string[], reason: SessionEndReason) => void endedSessions.push({ ids, reason });
  const apiKeys = createApiKeyService({
    database,
    audit,
    quotas: { requireBelowLimit() {} },
    log: silentLog,
    onKeysDeleted: () => {},
  });
  const auth = createAuthService({
    fetch: createFetch(noProxy),
    database,
    users,
    audit,
    apiKeys,
    guard: noLoginGuard,
    checksPerUser: new Slots({ slotsMax: 0, resources: "passwords", onRejected: () => {} }),
    jwtSecret: JWT_SECRET,
    config: {
      REGISTRATION: registration,
      REGISTRATION_PRIVACY: isPrivate ? "on" : "off",
      QUOTA_SESSIONS: 1_000,
      OIDC_ISSUER: issuer?.issuer,
      OIDC_AUDIENCE: issuer?.audience ?? [],
      OIDC_JWKS_URL: issuer?.jwksUrl,
      OIDC_PROVISION: issuer?.isProvisioning === false ? "off" : "on",
    },
    log: silentLog,
    onSessionsEnded,
    ...(issuer?.times && { issuerKeyTimes: issuer.times }),
  });
  const getClientAddress = createClientAddressLookup(trustedProxies);
  const authenticate = createAuthenticationPlugin({ identify: auth.identify, getClientAddress });
  const routes = [
    ...createAuthRoutes({ auth, getClientAddress }),
    ...createProfileRoutes({ users, auth }),
    ...createSessionRoutes({ auth }),
    ...createIdentityRoutes({ auth }),
  ];
  const app = new Elysia({ normalize: false, aot: true })
    .onError(createErrorHandler({ log: silentLog, findMethods: () => [] }))
    .use(requestIdPlugin)
    .use(createSecurityHeadersPlugin({}))
    .use(mount(routes, [authenticate, checkAccess]))
    .listen({ port: 0, hostname: "127.0.0.1" });
  const url = `http://127.0.0.1:${app.server?.port}/api/v1`;

  async function sendRequest(
    path: string,
    { token, method, json, headers = {} }: RequestOptions = {},
  ): Promise<Response> {
    return fetch(url + path, {
      method: method ?? (json === undefined ? "GET" : "POST"),
      headers: {
        ...headers,
        ...(token !== undefined && { authorization: `Bearer ${token}` }),
        ...(json !== undefined && { "content-type": "application/json" }),
      },
      ...(json !== undefined && { body: JSON.stringify(json) }),
    });
  }

  let accountCount = 0;
  async function register(email = `user${++accountCount}@example.com`): Promise<Tokens> {
    const response = await sendRequest("/auth/register", { json: { email, password: PASSWORD } });
    if (response.status !== 201) throw new Error(`register: ${response.status} ${await response.text()}`);
    return readJson<Tokens>(response);
  }

  return {
    url,
    database,
    users,
    auth,
    /** The revoked sessions, which a complete server would report to the realtime hub. */
    endedSessions,
    sendRequest,
    register,
    async login(email: string): Promise<Tokens> {
      return readJson<Tokens>(await sendRequest("/auth/login", { json: { email, password: PASSWORD } }));
    },
    async stop() {
      await app.stop(true);
      if (!options.database) await database.end();
    },
  };
}

export type Accounts = Awaited<ReturnType<typeof startAccounts>>;

export async function readJson<T>(response: Response): Promise<T> {
  return (await response.json()) as T;
}

/** Returns the status and problem code of a response. */
export async function readProblem(response: Response): Promise<{ status: number; code: string }> {
  const { code } = await readJson<{ code: string }>(response);
  return { status: response.status, code };
}
