import { SignJWT } from "jose";
import { MASK } from "../../../lib/userinfo.ts";
import { ToolError } from "../model.ts";

/** Lifetime of a token. */
const TOKEN_TTL_S = 60;
/** Maximum number of recent tokens that are masked in a server's responses. */
const RECENT_TOKENS_MAX = 64;

/** The user on whose behalf a model calls a tool. */
export type ToolUser = { id: string; email: string };

/** Finds a user. Resolves to null if the user was deleted or disabled. */
export type FindToolUser = (userId: string) => Promise<ToolUser | null>;

/** Proves a user's identity to a server. */
export interface UserIdentity {
  /** Creates a token for a request. @throws ToolError if the user was deleted or disabled. */
  createToken(): Promise<string>;
  /** Masks recent tokens in text from the server. */
  mask(text: string): string;
}

type Options = {
  userId: string;
  findUser: FindToolUser;
  issuer: string;
  /** The server's URL. It makes other servers reject the token. */
  audience: string;
  secret: string;
};

/**
 * Creates short-lived tokens (JWT, HS256) that identify the user of a request. Each server has its own secret, so it can't create
 * tokens for other servers. The user is looked up for each token, so calls fail as soon as the user is disabled, even during an
 * answer.
 */
export function createIdentity({ userId, findUser, issuer, audience, secret }: Options): UserIdentity {
  const key = new TextEncoder().encode(secret);
  const recentTokens: { token: string; atMs: number }[] = [];

  return {
    async createToken() {
      const user = await findUser(userId);
      if (!user) throw new ToolError("The user's account was deleted or disabled.");
      // Parley doesn't verify email addresses, so servers must not treat this one as verified.
      const token = await new SignJWT({ email: user.email, email_verified: false })
        .setProtectedHeader({ alg: "HS256", typ: "JWT" })
        .setIssuer(issuer)
        .setAudience(audience)
        .setSubject(user.id)
        .setIssuedAt()
        .setExpirationTime(`${TOKEN_TTL_S}s`)
        .setJti(crypto.randomUUID())
        .sign(key);
      recentTokens.push({ token, atMs: performance.now() });
      const isExpired = ({ atMs }: { atMs: number }) => performance.now() - atMs > TOKEN_TTL_S * 1_000;
      while (recentTokens.length > RECENT_TOKENS_MAX || (recentTokens[0] && isExpired(recentTokens[0])))
        recentTokens.shift();
      return token;
    },

    mask: (text) => recentTokens.reduce((masked, { token }) => masked.replaceAll(token, MASK), text),
  };
}
