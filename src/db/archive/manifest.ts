import { type Static, Type } from "@sinclair/typebox";
import { Value } from "@sinclair/typebox/value";
import { createDamagedError } from "./error.ts";

const TABLES_MAX = 1_000;
const Name = Type.String({ minLength: 1, maxLength: 63 });
const NonNegativeInteger = Type.Integer({ minimum: 0 });

/** A row of `migrations`. */
const Migration = Type.Object({
  name: Type.String({ minLength: 1, maxLength: 200 }),
  checksum: Type.String({ maxLength: 200 }),
  version: Type.Union([Type.String({ maxLength: 200 }), Type.Null()]),
  applied_at: Type.String({ format: "date-time" }),
});

/** The first entry, `parley-backup.json`, which describes the contents. */
export const ArchiveHeader = Type.Object({
  created_at: Type.String({ format: "date-time" }),
  parley: Type.Object({ version: Type.String({ maxLength: 100 }), commit: Type.String({ maxLength: 100 }) }),
  postgres_version: Type.String({ maxLength: 200 }),
  /** The applied migrations, ordered by name. They determine the tables and columns. */
  migrations: Type.Array(Migration, { minItems: 1, maxItems: TABLES_MAX }),
  /** The tables, in the order of their data. */
  tables: Type.Array(Type.Object({ name: Name, columns: Type.Array(Name, { minItems: 1, maxItems: 1_600 }) }), {
    maxItems: TABLES_MAX,
  }),
  jwt_secret: Type.Object({
    /** `included`: stored in the entry `jwt-secret`. `configured`: not stored, because JWT_SECRET sets it. `unknown`: not found. */
    state: Type.Union([Type.Literal("included"), Type.Literal("configured"), Type.Literal("unknown")]),
    /** Identifies the secret without revealing it. */
    fingerprint: Type.Union([Type.String({ maxLength: 100 }), Type.Null()]),
  }),
});
export type ArchiveHeader = Static<typeof ArchiveHeader>;

const TableSummary = Type.Object({
  name: Name,
  rows: NonNegativeInteger,
  /** The size of the rows in COPY's text format. */
  bytes: NonNegativeInteger,
  parts: NonNegativeInteger,
  /** The sum of all rows' XXH64 hashes modulo 2^64, in hexadecimal. It doesn't depend on the order of the rows. */
  checksum: Type.String({ pattern: "^[0-9a-f]{16}$" }),
});
export type TableSummary = Static<typeof TableSummary>;

const Sequence = Type.Object({
  name: Name,
  last_value: Type.String({ pattern: "^-?\\d{1,19}$" }),
  is_called: Type.Boolean(),
});
export type Sequence = Static<typeof Sequence>;

/** The last entry, `manifest.json`, which summarizes the contents. */
export const ArchiveManifest = Type.Object({
  tables: Type.Array(TableSummary, { maxItems: TABLES_MAX }),
  sequences: Type.Array(Sequence, { maxItems: TABLES_MAX }),
});
export type ArchiveManifest = Static<typeof ArchiveManifest>;

export const parseHeader = (content: Uint8Array): ArchiveHeader => {
  const value = parseJson(content, HEADER_PATH);
  if (!Value.Check(ArchiveHeader, value)) throw createDamagedError(`${HEADER_PATH} has an unexpected structure`);
  return value;
};

export const parseManifest = (content: Uint8Array): ArchiveManifest => {
  const value = parseJson(content, MANIFEST_PATH);
  if (!Value.Check(ArchiveManifest, value)) throw createDamagedError(`${MANIFEST_PATH} has an unexpected structure`);
  return value;
};

function parseJson(content: Uint8Array, path: string): unknown {
  try {
    return JSON.parse(Buffer.from(content).toString());
  } catch {
    throw createDamagedError(`${path} is not JSON`);
  }
}

export const HEADER_PATH = "parley-backup.json";
export const MANIFEST_PATH = "manifest.json";
export const SECRET_PATH = "jwt-secret";

/** Returns the archive path of a table's part. Parts are numbered from 1. */
export const getPartPath = (table: string, n: number): string => `tables/${table}/${String(n).padStart(6, "0")}.copy`;
