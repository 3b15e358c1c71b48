/**
 * How a request field is handled. `mapped`: Parley interprets it. `forwarded`: it is sent to the provider unchanged.
 * `ignored`: it is accepted without effect, because it doesn't change the response. `rejected`: the request fails with
 * 400.
 */
export type Treatment = "mapped" | "forwarded" | "ignored" | "rejected";

export type FieldRule = {
  treatment: Treatment;
  /** A note for the documentation; for a rejected field, also part of its error message. */
  note: string;
  /** Whether a value has no effect: like null, it then counts as absent. */
  isNeutral?: (value: unknown) => boolean;
  /** The rules for the fields of its object, or of each object in its list. Absent if they aren't checked here. */
  inner?: (value: JsonFields) => FieldRules;
  /** For a rejected field: whether some other values are accepted. */
  hasValues?: boolean;
};

export type FieldRules = Readonly<Record<string, FieldRule>>;
export type JsonFields = Record<string, unknown>;

type RuleOptions = Omit<FieldRule, "treatment" | "note">;

export const mapped = (note = "", options: RuleOptions = {}): FieldRule => ({ treatment: "mapped", note, ...options });
export const forwarded = (note = "", options: RuleOptions = {}): FieldRule => ({
  treatment: "forwarded",
  note,
  ...options,
});
export const ignored = (note: string): FieldRule => ({ treatment: "ignored", note });
/** @param neutral accepted values, in addition to empty ones. */
export const rejected = (note: string, ...neutral: unknown[]): FieldRule => ({
  treatment: "rejected",
  note,
  hasValues: neutral.length > 0,
  isNeutral: (value) => isEmpty(value) || neutral.includes(value),
});

export const isFields = (value: unknown): value is JsonFields =>
  typeof value === "object" && value !== null && !Array.isArray(value);

export const isEmptyObject = (value: unknown): boolean =>
  typeof value === "object" && value !== null && Object.keys(value).length === 0;

const isEmpty = (value: unknown): boolean => value === "" || value === false || isEmptyObject(value);
