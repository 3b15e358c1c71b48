/* Reads JSON of unknown shape. A field of a wrong type counts as absent. */

export type Fields = Readonly<Record<string, unknown>>;

const noFields: Fields = {};

/** The fields of an object; empty for any other value. */
export const readFields = (value: unknown): Fields =>
  typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Fields) : noFields;

/** The entries of an array; empty for any other value. */
export const readList = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : []);

/** A non-empty string, or null. */
export const readText = (value: unknown): string | null => (typeof value === "string" && value !== "" ? value : null);
