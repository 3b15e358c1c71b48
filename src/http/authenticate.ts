import { Elysia } from "elysia";
import { Problem } from "../lib/problem.ts";

/** Who calls: a user through one of their sessions. */
export type Caller = {
  user: { id: string; email: string; display_name: string; role: "user" | "admin"; created_at: Date };
  sessionId: string;
  /** When the credential ends, in milliseconds since 1970. */
  expiresAtMs: number;
};

/** Finds out who a token belongs to. @throws Problem `unauthorized`. */
export type Identify = (token: string) => Promise<Caller>;

/**
 * The credential of a request: `Authorization: Bearer …` or `X-API-Key`.
 * @throws Problem `unauthorized` when the header has another form.
 */
export function readCredential(headers: Headers): string | null {
  const authorization = headers.get("authorization");
  if (authorization === null) return headers.get("x-api-key");
  const match = /^Bearer +([\w.~+/=-]{1,4096}) *$/i.exec(authorization);
  if (!match?.[1]) throw new Problem("unauthorized", "Send the credential as `Authorization: Bearer <token>`.");
  return match[1];
}

/** Adds `caller` to the context of the routes behind it; without a good credential none of them is reached. */
export function createAuthenticate(identify: Identify) {
  return new Elysia({ name: "authenticate" }).derive({ as: "scoped" }, async ({ request }) => {
    const token = readCredential(request.headers);
    if (token === null) throw new Problem("unauthorized", "This address needs a credential.");
    return { caller: await identify(token) };
  });
}

export type Authenticate = ReturnType<typeof createAuthenticate>;

/** @throws Problem `forbidden` unless the caller is an administrator. */
export function requireAdmin(caller: Caller): void {
  if (caller.user.role !== "admin") throw new Problem("forbidden", "This needs an administrator.");
}
