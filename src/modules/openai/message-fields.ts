import { type FieldRules, type FieldsObject, ignored, mapped, rejected } from "./field-rules.ts";

const cacheFields: FieldRules = {
  cache_control: ignored("Parley sets Anthropic's cache markers itself."),
  prompt_cache_breakpoint: ignored("The provider decides what it caches."),
};

const textFields: FieldRules = { type: mapped(), text: mapped(), refusal: mapped(), ...cacheFields };

/** Returns the rules for a content part. All fields of other types are accepted here; map-request.ts rejects such parts. */
const getPartFields = (part: FieldsObject): FieldRules =>
  part.type === "text" || part.type === "refusal" ? textFields : acceptAllFields(part);

const callFields: FieldRules = {
  id: mapped(),
  type: mapped("Only `function`; other types are rejected."),
  function: mapped("", {
    getInnerRules: () => ({
      name: mapped(),
      arguments: mapped(),
      parsed_arguments: ignored("The SDKs add it to `arguments`."),
    }),
  }),
  index: ignored("The position in the list is the index."),
  extra_content: mapped("Thinking from this server is returned to the model; other content is dropped."),
};

const commonFields: FieldRules = {
  role: mapped(),
  content: mapped("A string, or parts of type `text`.", { getInnerRules: getPartFields }),
};

const rulesByRole: Readonly<Record<string, FieldRules>> = {
  user: { ...commonFields, name: mapped("Models receive it before the text.") },
  assistant: {
    ...commonFields,
    refusal: mapped("Models receive it as text."),
    tool_calls: mapped("", { getInnerRules: () => callFields }),
    reasoning_content: ignored("Models receive `reasoning_details` instead."),
    reasoning: ignored("OpenRouter's name for `reasoning_content`."),
    reasoning_details: mapped("Thinking from this server is returned to the model; other entries are dropped."),
    name: ignored("Not sent to the model, which would copy it."),
    parsed: ignored("The SDKs add it to `content`."),
    annotations: rejected("Annotations can't be sent to models."),
    audio: rejected("Messages are text only."),
    function_call: rejected("Use `tool_calls` instead."),
  },
  tool: {
    ...commonFields,
    tool_call_id: mapped(),
    name: ignored("`tool_call_id` already identifies the tool."),
  },
};

const instructionFields: FieldRules = { ...commonFields, name: ignored("Instructions have no speaker.") };

/**
 * Returns the rules for a message, depending on its role. If the role is unknown, all fields are accepted here, and the schema
 * rejects the role.
 */
export const getMessageFields = (message: FieldsObject): FieldRules => {
  const { role } = message;
  if (role === "system" || role === "developer") return instructionFields;
  return (
    (typeof role === "string" && Object.hasOwn(rulesByRole, role) && rulesByRole[role]) || acceptAllFields(message)
  );
};

/** Accepts all fields of an object. */
const acceptAllFields = (value: FieldsObject): FieldRules =>
  Object.fromEntries(Object.keys(value).map((name) => [name, mapped()]));

/** The rules by role, for the documentation. */
export const fieldsByRole: Readonly<Record<string, FieldRules>> = {
  "system, developer": instructionFields,
  ...rulesByRole,
};
