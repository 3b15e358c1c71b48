/**
 * How Parley processes a request field. `mapped`: interprets it. `forwarded`: sends it to the provider unchanged. `ignored`:
 * accepts it without any effect. `rejected`: fails the request with 400.
 */
export type Treatment = "mapped" | "forwarded" | "ignored" | "rejected";

export type FieldRule = {
  treatment: Treatment;
  /** A note for the documentation. For a rejected field, it is also part of the error message. */
  note: string;
  /** Returns whether a value has no effect. Such a value counts as absent, like null. */
  isNeutral?: (value: unknown) => boolean;
  /** Returns the rules for the fields of the object, or of each object in the list. If absent, these fields aren't checked. */
  getInnerRules?: (value: FieldsObject) => FieldRules;
  /** For a rejected field: whether some values are accepted. */
  hasAcceptedValues?: boolean;
};

export type FieldRules = Readonly<Record<string, FieldRule>>;
export type FieldsObject = Record<string, unknown>;

type RuleOptions = Omit<FieldRule, "treatment" | "note">;

export const mapped = (note = "", options: RuleOptions = {}): FieldRule => ({ treatment: "mapped", note, ...options });
export const forwarded = (note = "", options: RuleOptions = {}): FieldRule => ({
  treatment: "forwarded",
  note,
  ...options,
});
export const ignored = (note: string): FieldRule => ({ treatment: "ignored", note });
/** Creates the rule for a rejected field. @param acceptedValues values that are accepted in addition to empty ones. */
export const rejected = (note: string, ...acceptedValues: unknown[]): FieldRule => ({
  treatment: "rejected",
  note,
  hasAcceptedValues: acceptedValues.length > 0,
  isNeutral: (value) => isEmpty(value) || acceptedValues.includes(value),
});

export const isFieldsObject = (value: unknown): value is FieldsObject =>
  typeof value === "object" && value !== null && !Array.isArray(value);

export const isEmptyObject = (value: unknown): boolean =>
  typeof value === "object" && value !== null && Object.keys(value).length === 0;

const isEmpty = (value: unknown): boolean => value === "" || value === false || isEmptyObject(value);
