import { SignJWT } from "jose";
import { MASK } from "../../../lib/userinfo.ts";
import { ToolError } from "../model.ts";

/** A server trusts a token no longer than that. Seconds. */
const TOKEN_TTL_S = 60;
/** Tokens of the last minute that are looked for in what a server sends back. */
const TOKENS_KEPT_MAX = 64;

/** Who a model calls a tool for. */
export type ToolUser = { id: string; email: string };

/** Null: there is no such user any more, or the account is disabled. */
export type FindToolUser = (userId: string) => Promise<ToolUser | null>;

/** The word of Parley for one user, to one server. */
export interface UserIdentity {
  /** A token for one request. @throws ToolError when the user may act no more. */
  createToken(): Promise<string>;
  /** Hides tokens in a text that the server sent. */
  mask(text: string): string;
}

type Options = {
  userId: string;
  findUser: FindToolUser;
  issuer: string;
  /** The address of the server: no other one should accept the token. */
  audience: string;
  secret: string;
};

/**
 * Makes short-lived tokens (JWT, HS256) that say for whom a request is. Each server has a secret of its own, so none of them
 * can make tokens for another one. The user is looked up for each token: who is disabled acts no more, even in mid-answer.
 */
export function createIdentity({ userId, findUser, issuer, audience, secret }: Options): UserIdentity {
  const key = new TextEncoder().encode(secret);
  const recent: { token: string; atMs: number }[] = [];

  return {
    async createToken() {
      const user = await findUser(userId);
      if (!user) throw new ToolError("The user who asked has no account any more, or it is disabled.");
      // Parley sends no mail to prove an address, so nobody should take it for proven.
      const token = await new SignJWT({ email: user.email, email_verified: false })
        .setProtectedHeader({ alg: "HS256", typ: "JWT" })
        .setIssuer(issuer)
        .setAudience(audience)
        .setSubject(user.id)
        .setIssuedAt()
        .setExpirationTime(`${TOKEN_TTL_S}s`)
        .setJti(crypto.randomUUID())
        .sign(key);
      recent.push({ token, atMs: performance.now() });
      const isOld = ({ atMs }: { atMs: number }) => performance.now() - atMs > TOKEN_TTL_S * 1_000;
      while (recent.length > TOKENS_KEPT_MAX || (recent[0] && isOld(recent[0]))) recent.shift();
      return token;
    },

    mask: (text) => recent.reduce((masked, { token }) => masked.replaceAll(token, MASK), text),
  };
}
