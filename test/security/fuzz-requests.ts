import fc, { type Arbitrary } from "fast-check";
import type { Operation, Parameter } from "./catalogue.ts";
import { corrupt, mutate, oddities } from "./mutations.ts";
import { plainHints } from "./requests.ts";
import { createSamples, type Hints } from "./samples.ts";
import { sharedPlaces, type World } from "./world.ts";

export type FuzzRequest = { path: string; headers: Record<string, string>; body: Uint8Array<ArrayBuffer> | null };

/** Requests to an operation that are nearly valid, and sometimes valid. */
export function createRequests({ path, parameters, body }: Operation, world: World): Arbitrary<FuzzRequest> {
  const hints = createHints(world);
  const places: Record<string, string> = { ...sharedPlaces, ...world.places };
  const pieces = path
    .split(/([\w-]+\/\{\w+\})/)
    .map((piece) => (piece.includes("{") ? createPlace(piece, places[piece]) : fc.constant(piece)));
  const query = parameters
    .filter((parameter) => parameter.in === "query")
    .map((parameter) => createPair(parameter, hints));
  return fc.record({
    path: fc
      .tuple(fc.tuple(...pieces), fc.tuple(...query), rarely(queryText))
      .map(
        ([parts, pairs, extra]) => `${parts.join("")}?${[...pairs, extra].filter((pair) => pair !== null).join("&")}`,
      ),
    headers: createHeaders(body !== null),
    body: body ? corrupt(mutate(createSamples(body, hints))) : fc.constant(null),
  });
}

/** Mostly data that exists in the world. */
export function createHints(world: World): Hints {
  const known = Object.entries(world.fields).map(([name, value]) => [
    name,
    fc.oneof({ weight: 9, arbitrary: fc.constant(value) }, { weight: 1, arbitrary: fc.uuid() }),
  ]);
  const { metadata: _, ...fields } = Object.fromEntries(known) as Record<string, Arbitrary<unknown>>;
  return { ...plainHints, ...fields };
}

const rarely = (arbitrary: Arbitrary<string>) =>
  fc.oneof({ weight: 12, arbitrary: fc.constant(null) }, { weight: 1, arbitrary });

const queryText = oddities.map((value) => encodeURIComponent(toText(value)));
const toText = (value: unknown) =>
  (typeof value === "string" ? value : JSON.stringify(value)).toWellFormed().slice(0, 1_000);

function createPlace(piece: string, value = ""): Arbitrary<string> {
  const before = piece.slice(0, piece.indexOf("/"));
  const odd = fc.oneof(
    fc.uuid(),
    queryText,
    fc.constantFrom("%", "%ff", "%00", "..", ".", "*", "%2e%2e%2f", "a%2fb", ":id"),
  );
  return fc
    .oneof({ weight: 7, arbitrary: fc.constant(encodeURIComponent(value)) }, { weight: 2, arbitrary: odd })
    .map((last) => `${before}/${last}`);
}

/** Cursors are also forged, because their contents reach the database. */
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
const cursors = fc
  .array(fc.oneof(fc.constantFrom(...cursorParts), fc.uuid(), oddities), { minLength: 1, maxLength: 2 })
  .map((key) => Buffer.from(JSON.stringify(["v1", ...key])).toString("base64url"));

function createPair({ name, schema }: Parameter, hints: Hints): Arbitrary<string | null> {
  const valid = createSamples(schema, hints).map((value) => encodeURIComponent(String(value).toWellFormed()));
  const value =
    name === "cursor"
      ? fc.oneof({ weight: 4, arbitrary: cursors }, { weight: 1, arbitrary: queryText })
      : fc.oneof({ weight: 2, arbitrary: valid }, { weight: 1, arbitrary: queryText });
  return fc.option(
    value.map((text) => `${name}=${text}`),
    { freq: 2 },
  );
}

/** Bytes that a header may contain at all. */
const headerText = fc.oneof(oddities.map(toText), fc.string({ maxLength: 100 })).map((text) =>
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
  const odd = fc.dictionary(fc.constantFrom(...names), headerText, { maxKeys: 2, noNullPrototype: true });
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
      fc.oneof({ weight: 4, arbitrary: fc.constant<Record<string, string>>({}) }, { weight: 1, arbitrary: odd }),
      accept,
      type,
    )
    .map(([some, accepted, contentType]) => ({
      ...some,
      ...accepted,
      ...(hasBody && { "content-type": contentType }),
    }));
}
