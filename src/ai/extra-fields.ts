import type { Api } from "./wire-format.ts";

/**
 * Chat Completions fields that Parley doesn't interpret and passes on to providers unchanged. None of them can make a
 * request cost more, or choose another model, than this server's settings allow.
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
  /** The wire formats that have the field. */
  apis: readonly Api[];
  /** Whether answers are the same without it: it is omitted for providers that don't have it. */
  isHint: boolean;
};

const supportedBy = <const Apis extends readonly Api[]>(...apis: Apis) => ({ apis, isHint: false });
const hintFor = <const Apis extends readonly Api[]>(...apis: Apis) => ({ apis, isHint: true });

const rules = {
  // Best effort at reproducible answers, never a guarantee.
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

/** Whether the field may be omitted if a provider doesn't have it. */
export const isHint = (field: ExtraField): boolean => rules[field].isHint;

/** Whether a wire format has the field. */
export const hasField = (api: Api, field: ExtraField): boolean => (rules[field] as Rule).apis.includes(api);

/** The fields of a request that its wire format has. */
export const pickExtra = <A extends Api>(api: A, extra: ExtraFields = {}): Pick<ExtraFields, FieldOf<A>> =>
  Object.fromEntries(
    listRequested(extra)
      .filter((field) => hasField(api, field))
      .map((field) => [field, extra[field]]),
  ) as Pick<ExtraFields, FieldOf<A>>;

/** The first field in a request that a provider doesn't support; null: none, or the provider has no wire format. */
export const findUnsupported = (api: Api | undefined, extra: ExtraFields = {}): ExtraField | null =>
  listRequested(extra).find((field) => api !== undefined && !isHint(field) && !hasField(api, field)) ?? null;

const listRequested = (extra: ExtraFields): ExtraField[] => extraFields.filter((field) => extra[field] !== undefined);
