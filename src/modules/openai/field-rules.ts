/**
 * How a request field is handled. `mapped`: Parley interprets it. `passed`: sent to the provider unchanged. `harmless`: has
 * no effect and needs none. `refused`: the request fails with 400.
 */
export type Treatment = "mapped" | "passed" | "harmless" | "refused";

export type FieldRule = {
  treatment: Treatment;
  /** How it is handled; for a refused field, a sentence that its error includes. */
  note: string;
  /** Values that have no effect: like null, they count as absent. */
  isNeutral?: (value: unknown) => boolean;
  /** The fields of its object, or of each object in its list. Absent: not checked here. */
  inner?: (value: JsonFields) => FieldRules;
  /** For a refused field: whether other values of it are accepted. */
  hasValues?: boolean;
};

export type FieldRules = Readonly<Record<string, FieldRule>>;
export type JsonFields = Record<string, unknown>;

type More = Omit<FieldRule, "treatment" | "note">;

export const mapped = (note = "", more: More = {}): FieldRule => ({ treatment: "mapped", note, ...more });
export const passed = (note = "", more: More = {}): FieldRule => ({ treatment: "passed", note, ...more });
export const harmless = (note: string): FieldRule => ({ treatment: "harmless", note });
/** @param neutral values that are accepted, in addition to empty ones. */
export const refused = (note: string, ...neutral: unknown[]): FieldRule => ({
  treatment: "refused",
  note,
  hasValues: neutral.length > 0,
  isNeutral: (value) => isEmpty(value) || neutral.includes(value),
});

export const isFields = (value: unknown): value is JsonFields =>
  typeof value === "object" && value !== null && !Array.isArray(value);

export const isEmptyObject = (value: unknown): boolean =>
  typeof value === "object" && value !== null && Object.keys(value).length === 0;

const isEmpty = (value: unknown): boolean => value === "" || value === false || isEmptyObject(value);
