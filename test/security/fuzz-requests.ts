import fc, { type Arbitrary } from "fast-check";
import type { Operation, Parameter } from "./catalog.ts";
import { mutate, serializeAndCorrupt, unusualValues } from "./mutations.ts";
import { commonFieldArbitraries } from "./requests.ts";
import { createSamples, type FieldArbitraries } from "./samples.ts";
import { publicPathValues, type UserData } from "./user-data.ts";

export type FuzzRequest = { path: string; headers: Record<string, string>; body: Uint8Array<ArrayBuffer> | null };

/** Creates valid and nearly valid requests to an operation. */
export function createRequests({ path, parameters, body }: Operation, userData: UserData): Arbitrary<FuzzRequest> {
  const arbitraries = createFieldArbitraries(userData);
  const pathValues: Record<string, string> = { ...publicPathValues, ...userData.pathValues };
  const segments = path
    .split(/([\w-]+\/\{\w+\})/)
    .map((segment) => (segment.includes("{") ? createSegment(segment, pathValues[segment]) : fc.constant(segment)));
  const query = parameters
    .filter((parameter) => parameter.in === "query")
    .map((parameter) => createQueryPair(parameter, arbitraries));
  return fc.record({
    path: fc
      .tuple(fc.tuple(...segments), fc.tuple(...query), createMostlyNull(encodedUnusualValues))
      .map(
        ([filled, pairs, extra]) => `${filled.join("")}?${[...pairs, extra].filter((pair) => pair !== null).join("&")}`,
      ),
    headers: createHeaders(body !== null),
    body: body ? serializeAndCorrupt(mutate(createSamples(body, arbitraries))) : fc.constant(null),
  });
}

/** Creates field arbitraries whose values mostly refer to the user's existing data. */
export function createFieldArbitraries(userData: UserData): FieldArbitraries {
  const knownFields = Object.entries(userData.fields).map(([name, value]) => [
    name,
    fc.oneof({ weight: 9, arbitrary: fc.constant(value) }, { weight: 1, arbitrary: fc.uuid() }),
  ]);
  const { metadata: _, ...fields } = Object.fromEntries(knownFields) as Record<string, Arbitrary<unknown>>;
  return { ...commonFieldArbitraries, ...fields };
}

const createMostlyNull = (arbitrary: Arbitrary<string>) =>
  fc.oneof({ weight: 12, arbitrary: fc.constant(null) }, { weight: 1, arbitrary });

const encodedUnusualValues = unusualValues.map((value) => encodeURIComponent(toText(value)));
const toText = (value: unknown) =>
  (typeof value === "string" ? value : JSON.stringify(value)).toWellFormed().slice(0, 1_000);

function createSegment(segment: string, value = ""): Arbitrary<string> {
  const resource = segment.slice(0, segment.indexOf("/"));
  const unusualSegment = fc.oneof(
    fc.uuid(),
    encodedUnusualValues,
    fc.constantFrom("%", "%ff", "%00", "..", ".", "*", "%2e%2e%2f", "a%2fb", ":id"),
  );
  return fc
    .oneof({ weight: 7, arbitrary: fc.constant(encodeURIComponent(value)) }, { weight: 2, arbitrary: unusualSegment })
    .map((last) => `${resource}/${last}`);
}

/** Parts of forged cursors. Cursors are forged because their contents reach the database. */
const cursorParts = [
  "before",
  "after",
  "1",
  "-1",
  "0.5",
  "9".repeat(30),
  "x",
  "",
  "2026-01-01T00:00:00Z",
  "infinity",
  "2026-13-45",
];
const forgedCursors = fc
  .array(fc.oneof(fc.constantFrom(...cursorParts), fc.uuid(), unusualValues), { minLength: 1, maxLength: 2 })
  .map((key) => Buffer.from(JSON.stringify(["v1", ...key])).toString("base64url"));

function createQueryPair({ name, schema }: Parameter, arbitraries: FieldArbitraries): Arbitrary<string | null> {
  const validValue = createSamples(schema, arbitraries).map((value) =>
    encodeURIComponent(String(value).toWellFormed()),
  );
  const value =
    name === "cursor"
      ? fc.oneof({ weight: 4, arbitrary: forgedCursors }, { weight: 1, arbitrary: encodedUnusualValues })
      : fc.oneof({ weight: 2, arbitrary: validValue }, { weight: 1, arbitrary: encodedUnusualValues });
  return fc.option(
    value.map((text) => `${name}=${text}`),
    { freq: 2 },
  );
}

/** Strings of characters that are valid in a header. */
const headerText = fc.oneof(unusualValues.map(toText), fc.string({ maxLength: 100 })).map((text) =>
  text
    .replaceAll(/[^\x20-\x7e\xa0-\xff]/g, "")
    .trim()
    .slice(0, 2_000),
);

function createHeaders(hasBody: boolean): Arbitrary<Record<string, string>> {
  const names = [
    "accept",
    "if-none-match",
    "last-event-id",
    "idempotency-key",
    "x-request-id",
    "x-on-behalf-of",
    "origin",
    "range",
    "user-agent",
    "x-forwarded-for",
  ];
  const unusualHeaders = fc.dictionary(fc.constantFrom(...names), headerText, { maxKeys: 2, noNullPrototype: true });
  const accept = fc.constantFrom<Record<string, string>>(
    {},
    {},
    {},
    { accept: "text/event-stream" },
    { accept: "text/html" },
    { "if-none-match": "*" },
  );
  const types = [
    "application/json; charset=utf-8",
    "text/plain",
    "multipart/form-data; boundary=x",
    "application/x-www-form-urlencoded",
    "",
  ];
  const type = fc.oneof(
    { weight: 9, arbitrary: fc.constant("application/json") },
    { weight: 1, arbitrary: fc.constantFrom(...types) },
  );
  return fc
    .tuple(
      fc.oneof(
        { weight: 4, arbitrary: fc.constant<Record<string, string>>({}) },
        { weight: 1, arbitrary: unusualHeaders },
      ),
      accept,
      type,
    )
    .map(([oddHeaders, acceptHeaders, contentType]) => ({
      ...oddHeaders,
      ...acceptHeaders,
      ...(hasBody && { "content-type": contentType }),
    }));
}
