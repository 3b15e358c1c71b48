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
// An empty text is a matter of `minLength`.
FormatRegistry.Set("visible-text", (value) => isPlainText(value) && (value === "" || isVisible(value)));
FormatRegistry.Set("visible-line", (value) => isLine(value) && (value === "" || isVisible(value)));
FormatRegistry.Set("date-time", (value) => timePattern.test(value) && !Number.isNaN(Date.parse(value)));

/** Formats that no other program knows; documents for clients leave them out. */
export const ownFormats: ReadonlySet<unknown> = new Set(["text", "line", "visible-text", "visible-line"]);

/** What the formats ask of a text, to be read after its name. */
export const formatRules: Readonly<Record<string, string>> & Record<"text", string> = {
  text: "may hold no control characters but tab and line breaks, and no lone surrogate",
  line: "must be one line without control characters",
  "visible-text": "needs a visible character, and may hold no control characters but tab and line breaks",
  "visible-line": "must be one line with a visible character, without control characters",
  uuid: "must be a UUID",
  email: "must be an e-mail address",
  "date-time": "must be a time as in RFC 3339",
};

/** Whether a text is a UUID in its usual form. */
export const isUuid = (value: string): boolean => uuidPattern.test(value);

/** A UUID. */
export const Uuid = (options: SchemaOptions = {}) => Type.String({ ...options, format: "uuid" });

/**
 * A UUID in a path, given to handlers in small letters: as text it names rooms and listeners, and one conversation must not
 * have two names.
 */
export const UuidParam = () =>
  Type.Transform(Uuid())
    .Decode((id) => id.toLowerCase())
    .Encode((id) => id);

/** Free text: no control characters but tab and line breaks, no lone surrogate. Lengths are UTF-16 units. */
export const Text = (options: StringOptions & { maxLength: number }) => Type.String({ ...options, format: "text" });

/** The same for what people shall recognise: blanks and invisible characters alone won't do. */
export const VisibleText = (options: StringOptions & { maxLength: number }) =>
  Type.String({ ...options, format: "visible-text" });

/** A name or a title: one line of which nothing is hidden, and not all of it invisible. */
export const VisibleLine = (options: StringOptions & { maxLength: number }) =>
  Type.String({ ...options, format: "visible-line" });

/** A text of one line of which nothing is hidden, such as an id. */
export const Line = (options: StringOptions & { maxLength: number }) => Type.String({ ...options, format: "line" });

/** What is searched for, in a query: given to handlers in the form in which texts are stored. */
export const SearchText = (options: StringOptions & { maxLength: number }) =>
  Type.Transform(Text(options)).Decode(normalizeText).Encode(normalizeText);

/** RFC 3339, UTC. */
export const Timestamp = (options: SchemaOptions = {}) => Type.String({ ...options, format: "date-time" });

export const Nullable = <T extends TSchema>(schema: T, options: SchemaOptions = {}) =>
  Type.Union([schema, Type.Null()], options);

/** An object without further properties: unknown fields of an input are an error, not silently dropped. */
export const Closed = <T extends Record<string, TSchema>>(properties: T, options: SchemaOptions = {}) =>
  Type.Object(properties, { ...options, additionalProperties: false });

TypeRegistry.Set<{ enum: string[] }>("StringEnum", (schema, value) => schema.enum.includes(value as string));

/** One of several texts, as `enum` (which OpenAPI 3.0 knows) and not as a union of `const` (which it does not). */
export const OneOf = <const T extends string>(values: readonly T[], options: SchemaOptions = {}) =>
  Type.Unsafe<T>({ ...options, [Kind]: "StringEnum", type: "string", enum: [...values] });

/**
 * A schema with a name of its own: the documents (OpenAPI, AsyncAPI) hold it once, below this name, and refer to it.
 * `title` is a keyword of JSON Schema that validates nothing.
 */
export const Named = <T extends TSchema>(name: string, schema: T): T => ({ ...schema, title: name });

const wholeNumber = /^-?\d{1,15}$/;

TypeRegistry.Set<{ minimum: number; maximum: number }>("QueryInteger", (schema, value) => {
  if (typeof value !== "string" || !wholeNumber.test(value)) return false;
  return Number(value) >= schema.minimum && Number(value) <= schema.maximum;
});

/**
 * A whole number in a query, which arrives as text. The framework's own checks the range only while it decodes, and then
 * cannot say which parameter was wrong.
 */
export const QueryInteger = (
  options: SchemaOptions & {
    minimum: number;
    maximum?: number;
    /** What the document says besides, where the server is more lenient. */
    documented?: { maximum?: number; default?: number };
  },
) =>
  Type.Transform(
    Type.Unsafe<number>({ maximum: Number.MAX_SAFE_INTEGER, ...options, [Kind]: "QueryInteger", type: "integer" }),
  )
    .Decode((text) => Number(text))
    .Encode((number) => number);
