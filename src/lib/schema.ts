import {
  FormatRegistry,
  Kind,
  type SchemaOptions,
  type StringOptions,
  type TSchema,
  Type,
  TypeRegistry,
} from "@sinclair/typebox";
import { hasVisibleCharacter, isPlainText, isSingleLine, isStorableText, normalizeText } from "./text.ts";

const uuidPattern = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;
const emailPattern = /^[^\s@<>()[\]\\,;:"]+@[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*$/i;
const timePattern = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)$/i;

FormatRegistry.Set("uuid", (value) => uuidPattern.test(value));
FormatRegistry.Set("email", (value) => emailPattern.test(value) && isStorableText(value));
FormatRegistry.Set("text", isPlainText);
FormatRegistry.Set("line", isSingleLine);
// Whether empty text is allowed depends on `minLength`.
FormatRegistry.Set("visible-text", (value) => isPlainText(value) && (value === "" || hasVisibleCharacter(value)));
FormatRegistry.Set("visible-line", (value) => isSingleLine(value) && (value === "" || hasVisibleCharacter(value)));
FormatRegistry.Set("date-time", (value) => timePattern.test(value) && !Number.isNaN(Date.parse(value)));

/** Parley's own formats. They are omitted from the OpenAPI and AsyncAPI documents. */
export const customFormats: ReadonlySet<unknown> = new Set(["text", "line", "visible-text", "visible-line"]);

/** The rules of the formats, each as the end of a sentence that begins with the field's name. */
export const formatRules: Readonly<Record<string, string>> & Record<"text", string> = {
  text: "must not contain control characters (except tab and line breaks) or lone surrogates",
  line: "must be one line without control characters",
  "visible-text": "must contain a visible character, and no control characters except tab and line breaks",
  "visible-line": "must be one line with a visible character, without control characters",
  uuid: "must be a UUID",
  email: "must be an email address",
  "date-time": "must be an RFC 3339 time",
};

/** Whether a string is a UUID with hyphens. */
export const isUuid = (value: string): boolean => uuidPattern.test(value);

/** A UUID. */
export const Uuid = (options: SchemaOptions = {}) => Type.String({ ...options, format: "uuid" });

/**
 * A UUID in a path. It is converted to lowercase, because ids are compared as strings.
 */
export const UuidParam = () =>
  Type.Transform(Uuid())
    .Decode((id) => id.toLowerCase())
    .Encode((id) => id);

/** Free text without control characters (except tab and line breaks) or lone surrogates. Lengths are in UTF-16 code units. */
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

/** An object without additional properties. Unknown fields are errors. */
export const Closed = <T extends Record<string, TSchema>>(properties: T, options: SchemaOptions = {}) =>
  Type.Object(properties, { ...options, additionalProperties: false });

TypeRegistry.Set<{ enum: string[] }>("StringEnum", (schema, value) => schema.enum.includes(value as string));

/** One of several strings. It is an `enum`, because OpenAPI 3.0 doesn't support a union of `const`. */
export const OneOf = <const T extends string>(values: readonly T[], options: SchemaOptions = {}) =>
  Type.Unsafe<T>({ ...options, [Kind]: "StringEnum", type: "string", enum: [...values] });

/**
 * Names a schema, so that the OpenAPI and AsyncAPI documents define it once and refer to it everywhere else. The name is stored
 * in `title`, which doesn't affect validation.
 */
export const Named = <T extends TSchema>(name: string, schema: T): T => ({ ...schema, title: name });

const wholeNumberPattern = /^-?\d{1,15}$/;

TypeRegistry.Set<{ minimum: number; maximum: number }>("QueryInteger", (schema, value) => {
  if (typeof value !== "string" || !wholeNumberPattern.test(value)) return false;
  return Number(value) >= schema.minimum && Number(value) <= schema.maximum;
});

/**
 * An integer in a query, which is received as a string. Elysia's own type checks the range while decoding, so its error doesn't
 * mention the invalid parameter.
 */
export const QueryInteger = (
  options: SchemaOptions & {
    minimum: number;
    maximum?: number;
    /** The limits in the OpenAPI document, if the server is more lenient. */
    documented?: { maximum?: number; default?: number };
  },
) =>
  Type.Transform(
    Type.Unsafe<number>({ maximum: Number.MAX_SAFE_INTEGER, ...options, [Kind]: "QueryInteger", type: "integer" }),
  )
    .Decode((text) => Number(text))
    .Encode((number) => number);
