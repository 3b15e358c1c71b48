import type { Server } from "bun";
import type { Caller, Identify, RequestOrigin } from "../../access/caller.ts";
import { addRequestId, getCredential } from "../../http/authenticate.ts";
import type { GetClientAddress } from "../../http/client-address.ts";
import type { IsAllowedOrigin } from "../../http/origin.ts";
import { addRequestFacts, getRequestFacts } from "../../http/request-facts.ts";
import { getRequestId } from "../../http/request-id.ts";
import { parseRequestUrl } from "../../http/request-url.ts";
import { type Route, route } from "../../http/route.ts";
import { Problem } from "../../lib/problem.ts";
import type { Slots } from "../../limits/slots.ts";
import { Connection } from "./connection.ts";

const SUBPROTOCOL = "parley.v1";
const TOKEN_PREFIX = "base64url.bearer.";

type Dependencies = {
  identify: Identify;
  /** Redeems a ticket, which is valid only once. @throws Problem `unauthorized`. */
  redeemTicket(ticket: string, origin: RequestOrigin): Promise<Caller>;
  getClientAddress: GetClientAddress;
  isAllowedOrigin: IsAllowedOrigin;
  /** The slots for open sockets on this instance, per user. */
  slots: Slots;
  isDraining(): boolean;
};

/**
 * Creates the route `GET /realtime`, which opens a WebSocket. Invalid requests are rejected over HTTP, before the upgrade. The route
 * doesn't use the framework's `.ws()`, because its per-socket closures and content sniffing are too slow (docs/decisions/0001).
 */
export function createSocketRoutes(deps: Dependencies): Route[] {
  const { identify, redeemTicket, getClientAddress, isAllowedOrigin, slots, isDraining } = deps;

  async function findCaller(request: Request, protocols: string[], ipAddress: string | null): Promise<Caller | null> {
    const origin = { ipAddress, onBehalfOf: request.headers.get("x-on-behalf-of") };
    const token = getCredential(request.headers) ?? decodeProtocolToken(protocols);
    if (token !== null) return identify(token, origin);
    const ticket = parseRequestUrl(request).searchParams.get("ticket");
    if (ticket !== null) return redeemTicket(ticket, origin);
    // Without a credential in the handshake, the header would have no effect, and the key in the `auth` frame would act for its owner.
    if (origin.onBehalfOf !== null)
      throw new Problem(
        "malformed",
        "Send X-On-Behalf-Of together with the key, or `on_behalf_of` in the `auth` frame.",
      );
    return null;
  }

  return [
    route({
      method: "GET",
      path: "/realtime",
      operationId: "connect",
      summary: "Open a WebSocket",
      tag: "operations",
      // Public, because the credential may also be a ticket, a subprotocol or in the first frame.
      public: true,
      // The AsyncAPI document describes it.
      isHidden: true,
      handle: async ({ request, server, set }) => {
        if (request.headers.get("upgrade")?.toLowerCase() !== "websocket")
          throw new Problem(
            "malformed",
            "This endpoint requires a WebSocket handshake; see /problems/malformed and the docs.",
          );
        const origin = request.headers.get("origin");
        if (origin !== null && !isAllowedOrigin(origin, request))
          throw new Problem("forbidden", "This origin may not connect. Add it to CORS_ORIGINS.");
        if (isDraining())
          throw new Problem("draining", "This instance is shutting down. Reconnect.", { retryAfterMs: 1_000 });
        const protocols = parseProtocols(request);
        if (protocols.length > 0 && !protocols.includes(SUBPROTOCOL))
          throw new Problem("malformed", `Offer the subprotocol ${SUBPROTOCOL}.`);
        const ipAddress = getClientAddress(request, server);
        const authenticatedCaller = await findCaller(request, protocols, ipAddress);
        const caller = authenticatedCaller && addRequestId(authenticatedCaller, { request, headers: set.headers });
        if (caller) slots.requireFreeSlot(caller.user.id);
        const connection = new Connection(
          caller,
          ipAddress,
          getRequestId(set),
          getRequestFacts(request).span?.spanContext(),
        );
        const headers = protocols.length > 0 ? { "sec-websocket-protocol": SUBPROTOCOL } : undefined;
        const isUpgraded = (server as Server<unknown> | null)?.upgrade(request, {
          data: { connection },
          ...(headers && { headers }),
        });
        if (!isUpgraded) throw new Problem("malformed", "The WebSocket handshake is incomplete.");
        addRequestFacts(request, { isUpgraded: true });
        return undefined;
      },
    }),
  ];
}

function parseProtocols(request: Request): string[] {
  const header = request.headers.get("sec-websocket-protocol") ?? "";
  return header
    .split(",")
    .map((part) => part.trim())
    .filter((part) => part !== "");
}

/**
 * Decodes the token in the subprotocol `base64url.bearer.<base64url(token)>`. In the handshake, browsers have no other way to send a
 * token.
 */
function decodeProtocolToken(protocols: string[]): string | null {
  const tokenProtocol = protocols.find((protocol) => protocol.startsWith(TOKEN_PREFIX));
  if (!tokenProtocol) return null;
  return Buffer.from(tokenProtocol.slice(TOKEN_PREFIX.length), "base64url").toString();
}
