import { type Static, Type } from "@sinclair/typebox";
import { BODY_BYTES_MAX } from "../../http/body.ts";
import { Closed, Named, Nullable, Text, Timestamp, Uuid, VisibleLine } from "../../lib/schema.ts";
import { CONTENT_CHARS_MAX } from "../../protocol/frames.ts";
import { HOOK_NAME_CHARS_MAX } from "./limits.ts";

const Signed = { description: "Whether posts must be signed (Standard Webhooks)." };

/** A hook without its token and secret, as returned to users who can delete it. */
export const Hook = Named(
  "Hook",
  Type.Object({
    id: Uuid({ description: "Also the `author.id` of the hook's messages." }),
    conversation_id: Uuid(),
    user_id: Uuid({ description: "The hook's creator, who is charged for its responses." }),
    name: Type.String(),
    signed: Type.Boolean(Signed),
    last_four: Type.String({ description: "The last characters of the hook's token." }),
    created_at: Timestamp(),
  }),
);
export type Hook = Static<typeof Hook>;

/** A new hook. No other response contains the hook's URL. */
export const CreatedHook = Named(
  "CreatedHook",
  Type.Object({
    ...Hook.properties,
    token: Type.String({ description: "The secret part of the URL. It isn't stored and is shown only once." }),
    url: Type.String({ description: "The URL to post to. Anyone who has it can post." }),
    secret: Type.Optional(
      Type.String({ description: "The secret for signing posts (`whsec_…`), if the hook is `signed`." }),
    ),
  }),
);
export type CreatedHook = Static<typeof CreatedHook>;

export const CreateHook = Named(
  "CreateHook",
  Closed({
    name: VisibleLine({
      minLength: 1,
      maxLength: HOOK_NAME_CHARS_MAX,
      description: "The author name of the hook's messages, unless a post sets its own.",
      examples: ["Deployments"],
    }),
    signed: Type.Optional(Type.Boolean({ ...Signed, default: false })),
  }),
);
export type CreateHook = Static<typeof CreateHook>;

const Content = Text({ minLength: 1, maxLength: CONTENT_CHARS_MAX });

export const HookPost = Named(
  "HookPost",
  Closed({
    content: Content,
    display_name: Type.Optional(
      Nullable(VisibleLine({ minLength: 1, maxLength: HOOK_NAME_CHARS_MAX }), {
        description: "The author name of this message. If absent or null, it is the hook's name.",
      }),
    ),
    reply: Type.Optional(
      Nullable(Type.Boolean(), { description: "Whether a model answers. If absent or null, `reply_mode` decides." }),
    ),
  }),
);
export type HookPost = Static<typeof HookPost>;

/** Maximum number of blocks or attachments per post. Slack allows 50 and 100. */
const SLACK_PARTS_MAX = 1_000;
/** Text whose length is checked after its conversion. Before that, only the body's size limit applies. */
const PassThroughText = (description: string) => Type.String({ maxLength: BODY_BYTES_MAX, description });

/** The supported fields of Slack's format. Unknown fields are ignored, as in Slack. */
export const SlackPost = Named(
  "SlackPost",
  Type.Object({
    text: Type.Optional(PassThroughText("In Slack's markup. Links and entities are converted.")),
    username: Type.Optional(PassThroughText("The author name of this message.")),
    blocks: Type.Optional(
      Type.Array(Type.Unknown(), {
        maxItems: SLACK_PARTS_MAX,
        description: "Their text is used if there is no `text`.",
      }),
    ),
    reply: Type.Optional(Type.Boolean({ description: "Not part of Slack's format. Works as in Parley's own format." })),
    attachments: Type.Optional(
      Type.Array(Type.Unknown(), {
        maxItems: SLACK_PARTS_MAX,
        description: "Their text is appended to the message.",
      }),
    ),
  }),
);

/** The text of a post in Slack's format, after its conversion to Markdown. */
export const SlackText = Closed({ text: Content });
