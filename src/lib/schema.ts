import {
  FormatRegistry,
  Kind,
  type SchemaOptions,
  type StringOptions,
  type TSchema,
  Type,
  TypeRegistry,
} from "@sinclair/typebox";
import { isLine, isPlainText, isStorableText, isVisible, normalizeText } from "./text.ts";

const uuidPattern = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;
const emailPattern = /^[^\s@<>()[\]\\,;:"]+@[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*$/i;
const timePattern = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)$/i;

FormatRegistry.Set("uuid", (value) => uuidPattern.test(value));
FormatRegistry.Set("email", (value) => emailPattern.test(value) && isStorableText(value));
FormatRegistry.Set("text", isPlainText);
FormatRegistry.Set("line", isLine);
// Whether empty text is allowed depends on `minLength`.
FormatRegistry.Set("visible-text", (value) => isPlainText(value) && (value === "" || isVisible(value)));
FormatRegistry.Set("visible-line", (value) => isLine(value) && (value === "" || isVisible(value)));
FormatRegistry.Set("date-time", (value) => timePattern.test(value) && !Number.isNaN(Date.parse(value)));

/** Formats that only Parley knows. They are omitted from the documents for clients. */
export const ownFormats: ReadonlySet<unknown> = new Set(["text", "line", "visible-text", "visible-line"]);

/** The rules of the formats, as the end of a sentence that begins with the field's name. */
export const formatRules: Readonly<Record<string, string>> & Record<"text", string> = {
  text: "must not contain control characters (except tab and line breaks) or lone surrogates",
  line: "must be one line without control characters",
  "visible-text": "must contain a visible character, and no control characters except tab and line breaks",
  "visible-line": "must be one line with a visible character, without control characters",
  uuid: "must be a UUID",
  email: "must be an e-mail address",
  "date-time": "must be an RFC 3339 time",
};

/** Whether a string is a UUID in its usual form. */
export const isUuid = (value: string): boolean => uuidPattern.test(value);

/** A UUID. */
export const Uuid = (options: SchemaOptions = {}) => Type.String({ ...options, format: "uuid" });

/**
 * A UUID in a path, converted to lowercase, because ids are compared as strings: one conversation must not have two names.
 */
export const UuidParam = () =>
  Type.Transform(Uuid())
    .Decode((id) => id.toLowerCase())
    .Encode((id) => id);

/** Free text without control characters (except tab and line breaks) and lone surrogates. Lengths are in UTF-16 units. */
export const Text = (options: StringOptions & { maxLength: number }) => Type.String({ ...options, format: "text" });

/** Free text that contains at least one visible character. */
export const VisibleText = (options: StringOptions & { maxLength: number }) =>
  Type.String({ ...options, format: "visible-text" });

/** A name or title: one line with a visible character and without control characters. */
export const VisibleLine = (options: StringOptions & { maxLength: number }) =>
  Type.String({ ...options, format: "visible-line" });

/** One line without control characters, such as an id. */
export const Line = (options: StringOptions & { maxLength: number }) => Type.String({ ...options, format: "line" });

/** A search query, normalized like stored text. */
export const SearchText = (options: StringOptions & { maxLength: number }) =>
  Type.Transform(Text(options)).Decode(normalizeText).Encode(normalizeText);

/** A UTC time in RFC 3339 format. */
export const Timestamp = (options: SchemaOptions = {}) => Type.String({ ...options, format: "date-time" });

export const Nullable = <T extends TSchema>(schema: T, options: SchemaOptions = {}) =>
  Type.Union([schema, Type.Null()], options);

/** An object without additional properties. Unknown fields are an error instead of being ignored. */
export const Closed = <T extends Record<string, TSchema>>(properties: T, options: SchemaOptions = {}) =>
  Type.Object(properties, { ...options, additionalProperties: false });

TypeRegistry.Set<{ enum: string[] }>("StringEnum", (schema, value) => schema.enum.includes(value as string));

/** One of several strings, as an `enum`, which OpenAPI 3.0 supports, unlike a union of `const`. */
export const OneOf = <const T extends string>(values: readonly T[], options: SchemaOptions = {}) =>
  Type.Unsafe<T>({ ...options, [Kind]: "StringEnum", type: "string", enum: [...values] });

/**
 * A named schema. The documents (OpenAPI, AsyncAPI) contain it once under this name, and refer to it. It uses JSON Schema's
 * `title`, which doesn't affect validation.
 */
export const Named = <T extends TSchema>(name: string, schema: T): T => ({ ...schema, title: name });

const wholeNumber = /^-?\d{1,15}$/;

TypeRegistry.Set<{ minimum: number; maximum: number }>("QueryInteger", (schema, value) => {
  if (typeof value !== "string" || !wholeNumber.test(value)) return false;
  return Number(value) >= schema.minimum && Number(value) <= schema.maximum;
});

/**
 * An integer in a query, which is received as a string. Elysia's own type checks the range only while decoding, and then can't
 * tell which parameter was invalid.
 */
export const QueryInteger = (
  options: SchemaOptions & {
    minimum: number;
    maximum?: number;
    /** What the OpenAPI document says if the server is more lenient. */
    documented?: { maximum?: number; default?: number };
  },
) =>
  Type.Transform(
    Type.Unsafe<number>({ maximum: Number.MAX_SAFE_INTEGER, ...options, [Kind]: "QueryInteger", type: "integer" }),
  )
    .Decode((text) => Number(text))
    .Encode((number) => number);
