import { type FieldRules, harmless, type JsonFields, mapped, refused } from "./field-rules.ts";

const cacheFields: FieldRules = {
  cache_control: harmless("Parley marks what Anthropic's cache can keep."),
  prompt_cache_breakpoint: harmless("What a provider caches is left to it."),
};

const textFields: FieldRules = { type: mapped(), text: mapped(), refusal: mapped(), ...cacheFields };

/** Parts of other types are refused by their type. */
const partFields = (part: JsonFields): FieldRules =>
  part.type === "text" || part.type === "refusal" ? textFields : anyFields(part);

const callFields: FieldRules = {
  id: mapped(),
  type: mapped("Only `function`; others are refused."),
  function: mapped("", {
    inner: () => ({
      name: mapped(),
      arguments: mapped(),
      parsed_arguments: harmless("The SDKs add it to `arguments`."),
    }),
  }),
  index: harmless("Its place in the list says the same."),
  extra_content: mapped("Thinking that this server gave goes back to the model; other content is left out."),
};

const everyMessage: FieldRules = {
  role: mapped(),
  content: mapped("A text, or parts of the type `text`.", { inner: partFields }),
};

const byRole: Readonly<Record<string, FieldRules>> = {
  user: { ...everyMessage, name: mapped("The model is shown it in front of the text.") },
  assistant: {
    ...everyMessage,
    refusal: mapped("Models get it as text."),
    tool_calls: mapped("", { inner: () => callFields }),
    reasoning_content: harmless("What goes back to a model is in `reasoning_details`."),
    reasoning_details: mapped("Thinking that this server gave goes back to the model; other entries are left out."),
    name: harmless("Models are not told it: they would write it too."),
    parsed: harmless("The SDKs add it to `content`."),
    annotations: refused("Models cannot be shown annotations."),
    audio: refused("Messages are text only."),
    function_call: refused("Use `tool_calls`, which replaced it."),
  },
  tool: {
    ...everyMessage,
    tool_call_id: mapped(),
    name: harmless("The call that `tool_call_id` names has it."),
  },
};

const instructions: FieldRules = { ...everyMessage, name: harmless("Instructions need no speaker.") };

/** The fields of a message of this role; of one that is not known, all of them: its role is refused. */
export const messageFields = (message: JsonFields): FieldRules => {
  const { role } = message;
  if (role === "system" || role === "developer") return instructions;
  return (typeof role === "string" && Object.hasOwn(byRole, role) && byRole[role]) || anyFields(message);
};

/** Whatever is there: something else of the object is refused. */
const anyFields = (value: JsonFields): FieldRules =>
  Object.fromEntries(Object.keys(value).map((name) => [name, mapped()]));

/** By role, for the documentation. */
export const fieldsByRole: Readonly<Record<string, FieldRules>> = { "system, developer": instructions, ...byRole };
