import type { Api } from "./wire-format.ts";

/**
 * Chat Completions fields that are passed on to providers unchanged. None of them can choose a different model or exceed the
 * cost limits in the server's settings.
 */
export type ExtraFields = {
  readonly seed?: number;
  readonly frequency_penalty?: number;
  readonly presence_penalty?: number;
  readonly logit_bias?: Readonly<Record<string, number>>;
  readonly verbosity?: "low" | "medium" | "high";
  readonly top_k?: number;
  readonly top_a?: number;
  readonly min_p?: number;
  readonly repetition_penalty?: number;
  readonly thinking?: unknown;
  readonly enable_thinking?: boolean;
  readonly chat_template_kwargs?: unknown;
  readonly reasoning?: unknown;
  readonly include_reasoning?: boolean;
  readonly user?: string;
  readonly safety_identifier?: string;
  readonly prompt_cache_key?: string;
};

export type ExtraField = keyof ExtraFields;

type Rule = {
  /** The wire formats that include the field. */
  apis: readonly Api[];
  /** Whether the field can be omitted for providers that don't support it. */
  isHint: boolean;
};

const supportedBy = <const Apis extends readonly Api[]>(...apis: Apis) => ({ apis, isHint: false });
const hintFor = <const Apis extends readonly Api[]>(...apis: Apis) => ({ apis, isHint: true });

const rules = {
  // Providers don't guarantee reproducible answers.
  seed: hintFor("chat"),
  frequency_penalty: supportedBy("chat"),
  presence_penalty: supportedBy("chat"),
  logit_bias: supportedBy("chat"),
  verbosity: supportedBy("chat", "responses"),
  top_k: supportedBy("chat", "messages"),
  top_a: supportedBy("chat"),
  min_p: supportedBy("chat"),
  repetition_penalty: supportedBy("chat"),
  thinking: supportedBy("chat"),
  enable_thinking: supportedBy("chat"),
  chat_template_kwargs: supportedBy("chat"),
  reasoning: supportedBy("chat"),
  include_reasoning: supportedBy("chat"),
  user: hintFor("chat", "responses"),
  safety_identifier: hintFor("chat", "responses"),
  prompt_cache_key: hintFor("chat", "responses"),
} as const satisfies Record<ExtraField, Rule>;

type FieldOf<A extends Api> = {
  [Field in ExtraField]: A extends (typeof rules)[Field]["apis"][number] ? Field : never;
}[ExtraField];

export const extraFields = Object.keys(rules) as readonly ExtraField[];

/** Whether the field can be omitted for providers that don't support it. */
export const isHint = (field: ExtraField): boolean => rules[field].isHint;

/** Whether a wire format includes the field. */
export const hasField = (api: Api, field: ExtraField): boolean => (rules[field] as Rule).apis.includes(api);

/** Returns the fields that a wire format includes. */
export const pickExtraFields = <A extends Api>(api: A, extra: ExtraFields = {}): Pick<ExtraFields, FieldOf<A>> =>
  Object.fromEntries(
    listRequestedFields(extra)
      .filter((field) => hasField(api, field))
      .map((field) => [field, extra[field]]),
  ) as Pick<ExtraFields, FieldOf<A>>;

/** Returns the first field that a provider doesn't support, or null. A provider without a wire format ignores all fields. */
export const findUnsupportedField = (api: Api | undefined, extra: ExtraFields = {}): ExtraField | null =>
  listRequestedFields(extra).find((field) => api !== undefined && !isHint(field) && !hasField(api, field)) ?? null;

const listRequestedFields = (extra: ExtraFields): ExtraField[] =>
  extraFields.filter((field) => extra[field] !== undefined);
