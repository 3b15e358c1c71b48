import { requireRow, type Sql } from "../../db/client.ts";

/** The origin of an instance's documents. If `folder` is null, they are Parley's own guides. */
export type ListOrigin = { host: string; folder: string | null };

/** The list of an instance's documents, with hashes by path. */
export type DocumentList = ListOrigin & { fingerprint: string; hashes: ReadonlyMap<string, string> };

/** The current state, without the lists' contents. `is_silent` means that the instance hasn't reported for a while. */
export type IndexState = {
  generation: number;
  lists: { instance_id: string; fingerprint: string; is_silent: boolean }[];
};

/**
 * Reports that this instance is running.
 * @returns the state of the index and of all instances' lists. If this instance's own list was deleted, the result doesn't contain it.
 */
export async function renewList(sql: Sql, instanceId: string, ttlMs: number): Promise<IndexState> {
  const [row] = await sql<IndexState[]>`
    with own as (update document_lists set seen_at = clock_timestamp() where instance_id = ${instanceId})
    select generation, (
      select coalesce(json_agg(json_build_object('instance_id', instance_id, 'fingerprint', fingerprint, 'is_silent',
        instance_id <> ${instanceId} and seen_at < clock_timestamp() - ${ttlMs} * interval '1 ms')), '[]')
      from document_lists) as lists
    from document_index`;
  return requireRow(row, "index");
}

/** Returns the other instances' lists, without duplicates. */
export async function findOtherLists(sql: Sql, instanceId: string): Promise<DocumentList[]> {
  const rows = await sql<(ListOrigin & { fingerprint: string; paths: string[]; hashes: string[] })[]>`
    select distinct on (fingerprint, folder) host, folder, fingerprint, paths, hashes from document_lists
    where instance_id <> ${instanceId} order by fingerprint, folder, instance_id`;
  return rows.map(({ paths, hashes, ...list }) => ({
    ...list,
    hashes: new Map(paths.map((path, index) => [path, hashes[index] ?? ""])),
  }));
}

/** Replaces this instance's list. */
export async function storeList(sql: Sql, instanceId: string, list: DocumentList): Promise<void> {
  const { host, folder, fingerprint, hashes } = list;
  await sql`
    insert into document_lists (instance_id, host, folder, fingerprint, paths, hashes, seen_at)
    values (${instanceId}, ${host}, ${folder}, ${fingerprint}, ${[...hashes.keys()]}, ${[...hashes.values()]},
            clock_timestamp())
    on conflict (instance_id) do update
      set fingerprint = excluded.fingerprint, paths = excluded.paths, hashes = excluded.hashes, seen_at = excluded.seen_at`;
}

export async function deleteList(sql: Sql, instanceId: string): Promise<void> {
  await sql`delete from document_lists where instance_id = ${instanceId}`;
}

/** Deletes the lists of other instances that haven't reported for this long. */
export async function deleteExpiredLists(sql: Sql, instanceId: string, ttlMs: number): Promise<void> {
  await sql`
    delete from document_lists
    where instance_id <> ${instanceId} and seen_at < clock_timestamp() - ${ttlMs} * interval '1 ms'`;
}
