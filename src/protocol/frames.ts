import { type Static, type TSchema, Type } from "@sinclair/typebox";
import { type TypeCheck, TypeCompiler } from "@sinclair/typebox/compiler";
import { cleanJson, parseUncheckedJson } from "../lib/json.ts";
import { Problem } from "../lib/problem.ts";
import { Closed, Line, Named, Nullable, Text, Uuid } from "../lib/schema.ts";
import { listSchemaErrors } from "../lib/schema-errors.ts";
import { isStorableText, normalizeText } from "../lib/text.ts";
import { mapTypeToName } from "./names.ts";
import { ReasoningEffort } from "./reasoning-effort.ts";
import { ReplyFormat } from "./reply-format.ts";

/** Maximum size of a client frame. */
export const FRAME_BYTES_MAX = 64 * 1024;
/** Maximum length of a message's text in UTF-16 code units. Over a socket, FRAME_BYTES_MAX is reached first. */
export const CONTENT_CHARS_MAX = 200_000;
export const CLIENT_MESSAGE_ID_CHARS_MAX = 128;
export const MODEL_CHARS_MAX = 200;
const FRAME_ID_CHARS_MAX = 64;
const TOKEN_CHARS_MAX = 8_192;

const id = Line({ minLength: 1, maxLength: FRAME_ID_CHARS_MAX });
const Seq = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
const Content = Text({ minLength: 1, maxLength: CONTENT_CHARS_MAX });
const Model = Line({ minLength: 1, maxLength: MODEL_CHARS_MAX });

const frame = <T extends string, P extends Record<string, TSchema>>(type: T, description: string, properties: P) =>
  Named(`${mapTypeToName(type)}Frame`, Closed({ type: Type.Literal(type), id, ...properties }, { description }));
/** Creates the schema of a frame whose `id` is optional. */
const frameWithOptionalId = <T extends string, P extends Record<string, TSchema>>(
  type: T,
  description: string,
  properties: P,
) =>
  Named(
    `${mapTypeToName(type)}Frame`,
    Closed({ type: Type.Literal(type), id: Type.Optional(id), ...properties }, { description }),
  );

/** Options for the responses to a message. */
export const ReplySettings = {
  reasoning_effort: Type.Optional(
    Nullable(ReasoningEffort, {
      description: "Overrides the conversation's reasoning effort for responses to this message.",
    }),
  ),
  reply_format: Type.Optional(Nullable(ReplyFormat)),
};

/** Fields that identify a message. If there is a conversation id, the message must be in that conversation. */
const messageReference = {
  message_id: Uuid(),
  conversation_id: Type.Optional(Nullable(Uuid(), { description: "Makes the lookup faster." })),
};

/** All client frames by type. Their acks are in pushes.ts. */
export const clientFrames = {
  auth: frameWithOptionalId("auth", "Authenticates a new connection, or renews the credential of an open one.", {
    token: Line({ minLength: 1, maxLength: TOKEN_CHARS_MAX }),
    on_behalf_of: Type.Optional(Nullable(Uuid(), { description: "The user that a service key acts for." })),
  }),
  subscribe: frame("subscribe", "Subscribes to a conversation and recovers events after `after_seq`.", {
    conversation_id: Uuid(),
    after_seq: Type.Optional(Nullable(Seq, { description: "The highest `seq` that you have received." })),
  }),
  unsubscribe: frame("unsubscribe", "Ends the subscription to a conversation.", {
    conversation_id: Uuid(),
  }),
  "message.send": frame(
    "message.send",
    "Sends a message. Messages with the same `client_message_id` are stored only once.",
    {
      conversation_id: Uuid(),
      client_message_id: Line({ minLength: 1, maxLength: CLIENT_MESSAGE_ID_CHARS_MAX }),
      content: Content,
      reply: Type.Optional(
        Nullable(Type.Boolean(), {
          description: "Whether a model responds. If missing or null, it depends on `reply_mode`.",
        }),
      ),
      model: Type.Optional(Nullable(Model, { description: "The model that responds, if not the conversation's." })),
      parent_id: Type.Optional(
        Nullable(Uuid(), { description: "An earlier message from which this one branches off." }),
      ),
      ...ReplySettings,
    },
  ),
  "message.edit": frame("message.edit", "Changes the text of one of your messages.", {
    ...messageReference,
    content: Content,
  }),
  "message.delete": frame("message.delete", "Deletes a message.", messageReference),
  "generation.cancel": frame("generation.cancel", "Stops the model that is writing this response.", messageReference),
  "generation.regenerate": frame("generation.regenerate", "Generates another response to the same message.", {
    ...messageReference,
    model: Type.Optional(Nullable(Model)),
  }),
  "typing.start": frameWithOptionalId("typing.start", "Shows the other members that you are typing.", {
    conversation_id: Uuid(),
  }),
  "typing.stop": frameWithOptionalId("typing.stop", "Shows the other members that you have stopped typing.", {
    conversation_id: Uuid(),
  }),
  read: frame("read", "Moves your read position forward.", { conversation_id: Uuid(), seq: Seq }),
  "inbox.subscribe": frame("inbox.subscribe", "Subscribes to `inbox` frames for all of your conversations.", {}),
  "inbox.unsubscribe": frame("inbox.unsubscribe", "Ends the subscription to `inbox` frames.", {}),
  ping: frameWithOptionalId("ping", "Requests a `pong`.", {}),
} as const;

export type ClientFrameType = keyof typeof clientFrames;
export type ClientFrame<T extends ClientFrameType = ClientFrameType> = {
  [K in T]: Static<(typeof clientFrames)[K]>;
}[T];

const compiledSchemas = new Map<string, TypeCheck<TSchema>>(
  Object.entries(clientFrames).map(([type, schema]) => [type, TypeCompiler.Compile<TSchema>(schema)]),
);

/** The id of a frame, for its error response. Null if it isn't known. */
export type FrameContext = { id: string | null };

/**
 * Parses a client's text frame.
 * @param context receives the frame's id as soon as it is known, even if the frame is then rejected.
 * @throws Problem `too_large`, `malformed`, `invalid`.
 */
export function parseClientFrame(text: string, context: FrameContext): ClientFrame {
  const value = parseUncheckedJson(text);
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new Problem("malformed", "Each frame must be one JSON object.");
  const { id, type } = value as { id?: unknown; type?: unknown };
  // Set before all checks, so that every error contains the id.
  if (typeof id === "string" && id.length <= FRAME_ID_CHARS_MAX && isStorableText(id)) context.id = normalizeText(id);
  // A UTF-16 code unit is at most three bytes in UTF-8, so most frames don't need an exact count.
  if (text.length > FRAME_BYTES_MAX || (text.length * 3 > FRAME_BYTES_MAX && Buffer.byteLength(text) > FRAME_BYTES_MAX))
    throw new Problem("too_large", `The frame exceeds ${FRAME_BYTES_MAX} bytes.`);
  cleanJson(value, text);
  const check = typeof type === "string" ? compiledSchemas.get(type) : undefined;
  if (!check) throw new Problem("invalid", "The frame's `type` is missing or unknown.");
  if (!check.Check(value)) throw createInvalidFrameProblem(check, value);
  return value as ClientFrame;
}

function createInvalidFrameProblem(check: TypeCheck<TSchema>, value: unknown): Problem {
  const errors = listSchemaErrors(check.Errors(value), "body");
  return new Problem("invalid", errors[0]?.detail ?? "The frame is invalid.", { errors });
}
