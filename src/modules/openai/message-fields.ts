import { type FieldRules, harmless, type JsonFields, mapped, refused } from "./field-rules.ts";

const cacheFields: FieldRules = {
  cache_control: harmless("Parley sets Anthropic's cache markers itself."),
  prompt_cache_breakpoint: harmless("The provider decides what it caches."),
};

const textFields: FieldRules = { type: mapped(), text: mapped(), refusal: mapped(), ...cacheFields };

/** Parts of other types are rejected by their type. */
const partFields = (part: JsonFields): FieldRules =>
  part.type === "text" || part.type === "refusal" ? textFields : anyFields(part);

const callFields: FieldRules = {
  id: mapped(),
  type: mapped("Only `function`; other types are rejected."),
  function: mapped("", {
    inner: () => ({
      name: mapped(),
      arguments: mapped(),
      parsed_arguments: harmless("The SDKs add it to `arguments`."),
    }),
  }),
  index: harmless("The position in the list says the same."),
  extra_content: mapped("Thinking from this server goes back to the model; other content is dropped."),
};

const everyMessage: FieldRules = {
  role: mapped(),
  content: mapped("A string, or parts of type `text`.", { inner: partFields }),
};

const byRole: Readonly<Record<string, FieldRules>> = {
  user: { ...everyMessage, name: mapped("Shown to the model in front of the text.") },
  assistant: {
    ...everyMessage,
    refusal: mapped("Models receive it as text."),
    tool_calls: mapped("", { inner: () => callFields }),
    reasoning_content: harmless("Models receive `reasoning_details` instead."),
    reasoning: harmless("The same, as OpenRouter's clients send it."),
    reasoning_details: mapped("Thinking from this server goes back to the model; other entries are dropped."),
    name: harmless("Not sent to the model, which would copy it."),
    parsed: harmless("The SDKs add it to `content`."),
    annotations: refused("Annotations can't be sent to models."),
    audio: refused("Messages are text only."),
    function_call: refused("Use `tool_calls`, which replaced it."),
  },
  tool: {
    ...everyMessage,
    tool_call_id: mapped(),
    name: harmless("`tool_call_id` already identifies the tool."),
  },
};

const instructions: FieldRules = { ...everyMessage, name: harmless("Instructions have no speaker.") };

/** The fields of a message with this role. For an unknown role, all fields: the role itself is rejected. */
export const messageFields = (message: JsonFields): FieldRules => {
  const { role } = message;
  if (role === "system" || role === "developer") return instructions;
  return (typeof role === "string" && Object.hasOwn(byRole, role) && byRole[role]) || anyFields(message);
};

/** Accepts any field: something else in the object is rejected. */
const anyFields = (value: JsonFields): FieldRules =>
  Object.fromEntries(Object.keys(value).map((name) => [name, mapped()]));

/** By role, for the documentation. */
export const fieldsByRole: Readonly<Record<string, FieldRules>> = { "system, developer": instructions, ...byRole };
