import { type Static, Type } from "@sinclair/typebox";
import { Closed, Named, Nullable, Text, Timestamp, Uuid, VisibleLine } from "../../lib/schema.ts";
import { variableNames } from "./template.ts";

const NAME_CHARS_MAX = 100;
/** Maximum length of a template, in UTF-16 code units. */
const TEMPLATE_CHARS_MAX = 32_000;

const Name = VisibleLine({ minLength: 1, maxLength: NAME_CHARS_MAX });
const Template = Text({
  minLength: 1,
  maxLength: TEMPLATE_CHARS_MAX,
  description: `Text with variables in double braces: ${variableNames.join(", ")}, preferences.<name>.`,
  examples: ["You help {{user.display_name}}. Today is {{weekday}}, {{date}}."],
});
const IsDefault = Type.Boolean({
  description: "Whether your new conversations use this prompt. Only one prompt can be the default.",
});

export const Prompt = Named(
  "Prompt",
  Type.Object({
    id: Uuid(),
    name: Type.String(),
    template: Type.String({ description: "The newest version of the template." }),
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
    model: Type.String({ description: "The model that would be tried first." }),
    system: Type.String({ description: "The complete, rendered system prompt." }),
    messages: Type.Array(Type.Object({ role: Type.String(), content: Type.String() }), {
      description: "The messages after the system prompt, as they would be sent now. Empty without a conversation.",
    }),
    input_tokens: Type.Integer({ description: "Estimated tokens of the system prompt and the messages." }),
    sources: Type.Array(Type.Object({ path: Type.String(), title: Type.String(), heading: Nullable(Type.String()) }), {
      description: "Documents from which the prompt includes passages.",
    }),
  }),
);
export type PromptPreview = Static<typeof PromptPreview>;
