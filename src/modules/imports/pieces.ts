import { promisify } from "node:util";
import { gunzip, gzip } from "node:zlib";
import type { Sql } from "../../db/client.ts";

/** Size of a piece before compression, in bytes. */
export const PIECE_BYTES = 1024 * 1024;
const DELETE_BATCH_PIECES = 50;

// These functions use a thread pool, not the event loop.
const compress = promisify(gzip);
const decompress = promisify(gunzip);

export const compressPiece = (bytes: Uint8Array): Promise<Uint8Array> => compress(bytes, { level: 1 });

/**
 * Stores a piece of an uploaded file.
 * @param uncompressedBytes the size before compression.
 * @returns false if the import no longer exists or was aborted.
 */
export async function insertPiece(
  sql: Sql,
  importId: string,
  pieceNumber: number,
  uncompressedBytes: number,
  data: Uint8Array,
): Promise<boolean> {
  const { count } = await sql`
    with stored as (
      update imports set bytes = bytes + ${uncompressedBytes}, updated_at = now()
      where id = ${importId} and status = 'uploading' returning id
    )
    insert into import_pieces (import_id, n, data) select id, ${pieceNumber}, ${data} from stored`;
  return count === 1;
}

/** Reads the uploaded file, piece by piece. */
export async function* readPieces(sql: Sql, importId: string): AsyncGenerator<Uint8Array> {
  for (let n = 1; ; n += 1) {
    const [row] = await sql<{ data: Buffer }[]>`
      select data from import_pieces where import_id = ${importId} and n = ${n}`;
    if (!row) return;
    yield await decompress(row.data, { maxOutputLength: PIECE_BYTES });
  }
}

/** Deletes a batch of an import's pieces. Returns the number of deleted pieces. */
export async function deletePieces(sql: Sql, importId: string): Promise<number> {
  const { count } = await sql`
    delete from import_pieces where import_id = ${importId} and n = any (array(
      select n from import_pieces where import_id = ${importId} order by n limit ${DELETE_BATCH_PIECES}))`;
  return count;
}
