import { type Static, Type } from "@sinclair/typebox";
import { BODY_BYTES_MAX } from "../../http/body.ts";
import { Closed, Named, Nullable, Text, Timestamp, Uuid, VisibleLine } from "../../lib/schema.ts";
import { CONTENT_CHARS_MAX } from "../../protocol/frames.ts";
import { HOOK_NAME_CHARS_MAX } from "./limits.ts";

const Signed = { description: "Whether posts must be signed (Standard Webhooks)." };

/** A hook as those see it who may delete it: its token and its secret are nowhere. */
export const Hook = Named(
  "Hook",
  Type.Object({
    id: Uuid({ description: "Also the `author.id` of its messages." }),
    conversation_id: Uuid(),
    user_id: Uuid({ description: "Whose hook it is: its answers are charged to them." }),
    name: Type.String(),
    signed: Type.Boolean(Signed),
    last_four: Type.String({ description: "How its token ends." }),
    created_at: Timestamp(),
  }),
);
export type Hook = Static<typeof Hook>;

/** A new hook; the only answer that ever shows its address. */
export const CreatedHook = Named(
  "CreatedHook",
  Type.Object({
    ...Hook.properties,
    token: Type.String({ description: "The secret part of the address. It is not stored, and not shown again." }),
    url: Type.String({ description: "The address to post to. Everybody who has it can post." }),
    secret: Type.Optional(
      Type.String({ description: "`whsec_…`: what posts have to be signed with, if the hook is `signed`." }),
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
      description: "The name of its messages' author, unless a post brings its own.",
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
        description: "The author's name of this message. Absent or null: the hook's name.",
      }),
    ),
    reply: Type.Optional(
      Nullable(Type.Boolean(), { description: "Whether a model answers. Absent or null: `reply_mode` decides." }),
    ),
  }),
);
export type HookPost = Static<typeof HookPost>;

/** Blocks or attachments of one post; Slack takes 50 and 100. */
const SLACK_PARTS_MAX = 1_000;
/** What they come to is bounded later, as our own form is; the body's own limit is the only one here. */
const Passed = (description: string) => Type.String({ maxLength: BODY_BYTES_MAX, description });

/** What of Slack's form is read. Other fields are ignored, as Slack does. */
export const SlackPost = Named(
  "SlackPost",
  Type.Object({
    text: Type.Optional(Passed("In Slack's markup; links and entities are translated.")),
    username: Type.Optional(Passed("The author's name of this message.")),
    blocks: Type.Optional(
      Type.Array(Type.Unknown(), {
        maxItems: SLACK_PARTS_MAX,
        description: "Their texts count where there is no `text`.",
      }),
    ),
    reply: Type.Optional(Type.Boolean({ description: "Not Slack's: as in our own form." })),
    attachments: Type.Optional(
      Type.Array(Type.Unknown(), { maxItems: SLACK_PARTS_MAX, description: "Their texts follow the message's." }),
    ),
  }),
);

/** The text that a post in Slack's form comes to. */
export const SlackText = Closed({ text: Content });
