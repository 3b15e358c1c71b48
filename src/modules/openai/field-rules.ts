/**
 * What becomes of a field of a request. `mapped`: Parley understands it. `passed`: it goes to the model's provider as it is.
 * `harmless`: nothing is asked by it that would not be done anyway. `refused`: the request is answered 400.
 */
export type Treatment = "mapped" | "passed" | "harmless" | "refused";

export type FieldRule = {
  treatment: Treatment;
  /** What is done with it; of a refused field, a sentence that its error says too. */
  note: string;
  /** Values that ask for nothing: as null, they are taken as if the field were absent. */
  isNeutral?: (value: unknown) => boolean;
  /** The fields of the object in it, or of each object of a list. Absent: nobody looks into it here. */
  inner?: (value: JsonFields) => FieldRules;
  /** Of a refused field: whether other values of it are taken. */
  hasValues?: boolean;
};

export type FieldRules = Readonly<Record<string, FieldRule>>;
export type JsonFields = Record<string, unknown>;

type More = Omit<FieldRule, "treatment" | "note">;

export const mapped = (note = "", more: More = {}): FieldRule => ({ treatment: "mapped", note, ...more });
export const passed = (note = "", more: More = {}): FieldRule => ({ treatment: "passed", note, ...more });
export const harmless = (note: string): FieldRule => ({ treatment: "harmless", note });
/** @param neutral values that may stand there nevertheless, beside what is empty. */
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
