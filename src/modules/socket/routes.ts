import type { Server } from "bun";
import { Elysia } from "elysia";
import { type Caller, type Identify, type RequestOrigin, readCredential } from "../../http/authenticate.ts";
import type { ReadClientAddress } from "../../http/client-address.ts";
import type { IsAllowedOrigin } from "../../http/origin.ts";
import { readUrl } from "../../http/request-url.ts";
import { Problem } from "../../lib/problem.ts";
import { Connection } from "./connection.ts";

const SUBPROTOCOL = "parley.v1";
const TOKEN_PREFIX = "base64url.bearer.";

type Dependencies = {
  identify: Identify;
  /** Spends a ticket. @throws Problem `unauthorized`. */
  redeemTicket(ticket: string, origin: RequestOrigin): Promise<Caller>;
  readClientAddress: ReadClientAddress;
  isAllowedOrigin: IsAllowedOrigin;
  isDraining(): boolean;
};

/**
 * `GET /realtime`: who may not come in is told so by HTTP, before the upgrade. A plain route and not the framework's
 * `.ws()`, whose per-socket closures and guessing parser the hot path does without (docs/decisions/0001).
 */
export function createSocketRoutes(deps: Dependencies) {
  const { identify, redeemTicket, readClientAddress, isAllowedOrigin, isDraining } = deps;

  async function findCaller(request: Request, protocols: string[], ipAddress: string | null): Promise<Caller | null> {
    const origin = { ipAddress, onBehalfOf: request.headers.get("x-on-behalf-of") };
    const token = readCredential(request.headers) ?? readProtocolToken(protocols);
    if (token !== null) return identify(token, origin);
    const ticket = readUrl(request).searchParams.get("ticket");
    return ticket === null ? null : redeemTicket(ticket, origin);
  }

  return new Elysia({ name: "socket" }).get(
    "/realtime",
    async ({ request, server }) => {
      if (request.headers.get("upgrade")?.toLowerCase() !== "websocket")
        throw new Problem("malformed", "This address speaks WebSocket; see /problems/malformed and the docs.");
      const origin = request.headers.get("origin");
      if (origin !== null && !isAllowedOrigin(origin, request))
        throw new Problem("forbidden", "This origin may not connect; name it in CORS_ORIGINS.");
      if (isDraining())
        throw new Problem("draining", "This instance is shutting down; connect again.", { retryAfterMs: 1_000 });
      const protocols = readProtocols(request);
      if (protocols.length > 0 && !protocols.includes(SUBPROTOCOL))
        throw new Problem("malformed", `Offer the subprotocol ${SUBPROTOCOL}.`);
      const ipAddress = readClientAddress(request, server);
      const connection = new Connection(await findCaller(request, protocols, ipAddress), ipAddress);
      const headers = protocols.length > 0 ? { "sec-websocket-protocol": SUBPROTOCOL } : undefined;
      const isUpgraded = (server as Server<unknown> | null)?.upgrade(request, {
        data: { connection },
        ...(headers && { headers }),
      });
      if (!isUpgraded) throw new Problem("malformed", "The WebSocket handshake is not complete.");
      return undefined;
    },
    { detail: { hide: true } },
  );
}

function readProtocols(request: Request): string[] {
  const header = request.headers.get("sec-websocket-protocol") ?? "";
  return header
    .split(",")
    .map((part) => part.trim())
    .filter((part) => part !== "");
}

/** `base64url.bearer.<base64url(token)>`: the only way for a browser to bring a token with the handshake. */
function readProtocolToken(protocols: string[]): string | null {
  const offered = protocols.find((protocol) => protocol.startsWith(TOKEN_PREFIX));
  if (!offered) return null;
  return Buffer.from(offered.slice(TOKEN_PREFIX.length), "base64url").toString();
}
