import { type Static, Type } from "@sinclair/typebox";
import { Closed, Named, Nullable, Text, Timestamp, Uuid, VisibleLine } from "../../lib/schema.ts";
import { variableNames } from "./template.ts";

const NAME_CHARS_MAX = 100;
/** UTF-16 units of a template. */
const TEMPLATE_CHARS_MAX = 32_000;

const Name = VisibleLine({ minLength: 1, maxLength: NAME_CHARS_MAX });
const Template = Text({
  minLength: 1,
  maxLength: TEMPLATE_CHARS_MAX,
  description: `Text with variables in double braces: ${variableNames.join(", ")}, preferences.<name>.`,
  examples: ["You help {{user.display_name}}. Today is {{weekday}}, {{date}}."],
});
const IsDefault = Type.Boolean({ description: "Whether new conversations of the caller begin with it; at most one." });

export const Prompt = Named(
  "Prompt",
  Type.Object({
    id: Uuid(),
    name: Type.String(),
    template: Type.String({ description: "Its newest version." }),
    version: Type.Integer(),
    is_default: Type.Boolean(),
    created_at: Timestamp(),
    updated_at: Timestamp(),
  }),
);
export type Prompt = Static<typeof Prompt>;

export const PromptVersion = Named(
  "PromptVersion",
  Type.Object({
    version: Type.Integer(),
    template: Type.String(),
    created_at: Timestamp(),
  }),
);
export type PromptVersion = Static<typeof PromptVersion>;

export const CreatePrompt = Named(
  "CreatePrompt",
  Closed({ name: Name, template: Template, is_default: Type.Optional(IsDefault) }),
);
export type CreatePrompt = Static<typeof CreatePrompt>;

export const ChangePrompt = Named(
  "ChangePrompt",
  Closed({
    name: Type.Optional(Name),
    template: Type.Optional(Template),
    is_default: Type.Optional(IsDefault),
  }),
);
export type ChangePrompt = Static<typeof ChangePrompt>;

export const PreviewPrompt = Nullable(Named("PreviewPrompt", Closed({ conversation_id: Type.Optional(Uuid()) })));
export type PreviewPrompt = Static<typeof PreviewPrompt>;

export const PromptPreview = Named(
  "PromptPreview",
  Type.Object({
    model: Type.String({ description: "The model that would be asked first." }),
    system: Type.String({ description: "All that is sent as system text, rendered." }),
    messages: Type.Array(Type.Object({ role: Type.String(), content: Type.String() }), {
      description: "What follows it, as it would be sent now; empty without a conversation.",
    }),
    input_tokens: Type.Integer({ description: "Estimated, of all of it." }),
    sources: Type.Array(Type.Object({ path: Type.String(), title: Type.String(), heading: Nullable(Type.String()) }), {
      description: "Documents whose passages are among it.",
    }),
  }),
);
export type PromptPreview = Static<typeof PromptPreview>;
