/* Functions for reading JSON of unknown shape. A value of the wrong type is treated as missing. */

export type Fields = Readonly<Record<string, unknown>>;

const noFields: Fields = {};

/** Returns an object unchanged, and an empty object for any other value. */
export const asFields = (value: unknown): Fields =>
  typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Fields) : noFields;

/** Returns an array unchanged, and an empty array for any other value. */
export const asList = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : []);

/** Returns a non-empty string unchanged, and null for any other value. */
export const asNonEmptyString = (value: unknown): string | null =>
  typeof value === "string" && value !== "" ? value : null;
