import type { Json, JsonObject } from "../../lib/json.ts";

/** The ways to authenticate on the WebSocket. */
const schemes = {
  bearer: {
    type: "http",
    scheme: "bearer",
    description: "`Authorization: Bearer <access token or API key>`, for clients that can set headers.",
  },
  apiKey: {
    type: "httpApiKey",
    in: "header",
    name: "X-API-Key",
    description: "An API key. A service key acts for another user with the header `X-On-Behalf-Of: <user id>`.",
  },
  subprotocol: {
    type: "httpApiKey",
    in: "header",
    name: "Sec-WebSocket-Protocol",
    description:
      "For browsers: a second subprotocol after `parley.v1`, `base64url.bearer.` followed by the token in base64url without padding. " +
      "The server responds with `parley.v1` only.",
  },
  ticket: {
    type: "httpApiKey",
    in: "query",
    name: "ticket",
    description: "A ticket from `POST /api/v1/auth/ticket`. It works once, within 30 seconds.",
  },
  authFrame: {
    type: "apiKey",
    in: "password",
    description: "Connect without a credential, and send it in an `auth` frame within 10 seconds.",
  },
} as const;

export const securitySchemes: JsonObject = schemes;

type SchemeName = keyof typeof schemes;

const createSchemeReferences = (names: SchemeName[]) =>
  names.map((name) => ({ $ref: `#/components/securitySchemes/${name}` }));

export const socketSecurity: Json[] = createSchemeReferences(Object.keys(schemes) as SchemeName[]);
/** The ways to authenticate over HTTP. */
export const httpSecurity: Json[] = createSchemeReferences(["bearer", "apiKey"]);

const createStringSchema = (description: string, extraProperties: JsonObject = {}): JsonObject => ({
  type: "string",
  description,
  ...extraProperties,
});

/** Describes the handshake, as the channel's WebSocket binding. */
export const handshake: JsonObject = {
  method: "GET",
  query: {
    type: "object",
    properties: {
      ticket: createStringSchema("A ticket, as an alternative to the headers. It works once, within 30 seconds."),
    },
  },
  headers: {
    type: "object",
    properties: {
      "Sec-WebSocket-Protocol": createStringSchema(
        "Offer `parley.v1`; browsers may add `base64url.bearer.<token in base64url without padding>` after it.",
        { examples: ["parley.v1, base64url.bearer.ZXlKaGJHY2k"] },
      ),
      Authorization: createStringSchema("`Bearer <access token or API key>`."),
      "X-API-Key": createStringSchema("An API key."),
      "X-On-Behalf-Of": createStringSchema("For service keys: the id of the user to act for.", { format: "uuid" }),
      Origin: createStringSchema("Sent by browsers. If the origin isn't allowed, the response is 403."),
    },
  },
  bindingVersion: "0.1.0",
};
