import type { ByteSource } from "./byte-reader.ts";
import { createDamaged } from "./error.ts";
import {
  type ArchiveHeader,
  type ArchiveManifest,
  HEADER_PATH,
  MANIFEST_PATH,
  parseHeader,
  parseManifest,
  partPath,
  SECRET_PATH,
  type TableEnd,
} from "./manifest.ts";
import { openArchive, type ReadOptions } from "./reader.ts";
import { createRowDigest } from "./row-digest.ts";
import { type BackupSummary, createSummary, type Progress } from "./summary.ts";

/** Callbacks that receive the contents of a backup, in order. */
export type BackupHandler = {
  onHeader?(header: ArchiveHeader): Promise<void>;
  onSecret?(secret: string): Promise<void>;
  /** Receives rows of a table in COPY's text format. They may be split within a row. */
  onRows?(table: ArchiveHeader["tables"][number], content: Buffer): Promise<void>;
  onTableEnd?(table: ArchiveHeader["tables"][number]): Promise<void>;
  /** Called once the contents match the manifest. The file's checksum hasn't been verified yet. */
  onManifest?(manifest: ArchiveManifest): Promise<void>;
  onProgress?: ((progress: Progress) => void) | undefined;
};

/**
 * Reads a backup in one pass and verifies it: each part as it arrives, each table's rows against the manifest, and the whole file by its
 * SHA-256.
 * @throws the errors of `openArchive` and of the handler.
 */
export async function readBackup(
  source: ByteSource,
  options: ReadOptions,
  handler: BackupHandler,
): Promise<BackupSummary> {
  const archive = await openArchive(source, options);
  try {
    let contents: ContentsReader | undefined;
    for await (const { path, content } of archive.entries) {
      if (contents) await contents.add(path, Buffer.from(content.buffer, content.byteOffset, content.length));
      else if (path === HEADER_PATH) {
        const header = parseHeader(content);
        await handler.onHeader?.(header);
        contents = createContentsReader(header, handler);
      } else throw createDamaged(`${path} comes before ${HEADER_PATH}`);
    }
    const manifest = contents?.findManifest();
    if (!contents || !manifest) throw createDamaged(`it has no ${MANIFEST_PATH}`);
    return createSummary(contents.header, manifest, archive.isEncrypted);
  } finally {
    await archive.close();
  }
}

type ContentsReader = {
  header: ArchiveHeader;
  add(path: string, content: Buffer): Promise<void>;
  findManifest(): ArchiveManifest | undefined;
};

/** Creates the reader of the entries after the header: the secret, the tables in the header's order, and the manifest. */
function createContentsReader(header: ArchiveHeader, handler: BackupHandler): ContentsReader {
  const tables = header.tables.map((table) => ({ table, digest: createRowDigest(), parts: 0 }));
  let current = -1;
  let rows = 0;
  let dataBytes = 0;
  let manifest: ArchiveManifest | undefined;

  /** Completes the current table, and all tables without rows that follow it, up to `until`. */
  async function advance(until: number): Promise<void> {
    for (; current < until; current += 1) {
      const completed = tables[current];
      if (!completed) continue;
      const sums = completed.digest.getSums();
      rows += sums.rows;
      dataBytes += sums.bytes;
      await handler.onTableEnd?.(completed.table);
    }
  }

  async function addRows(path: string, content: Buffer): Promise<void> {
    // Only the next part of the current table or the first part of a later table is valid.
    const index = tables.findIndex(
      ({ table, parts }, tableIndex) => tableIndex >= current && partPath(table.name, parts + 1) === path,
    );
    const entry = tables[index];
    if (!entry) throw createDamaged(`${path} is unexpected here`);
    await advance(index);
    entry.parts += 1;
    entry.digest.add(content);
    await handler.onRows?.(entry.table, content);
    const sums = entry.digest.getSums();
    handler.onProgress?.({
      table: entry.table.name,
      rows: rows + sums.rows,
      dataBytes: dataBytes + sums.bytes,
      fractionDone: null,
    });
  }

  async function end(content: Buffer): Promise<ArchiveManifest> {
    await advance(tables.length);
    const parsed = parseManifest(content);
    if (parsed.tables.length !== tables.length) throw createDamaged("its manifest names other tables");
    for (const [index, expected] of parsed.tables.entries()) {
      const found = tables[index];
      const sums: TableEnd | undefined = found && {
        name: found.table.name,
        parts: found.parts,
        ...found.digest.getSums(),
      };
      if (!found?.digest.isComplete() || !sums || !areSumsEqual(sums, expected))
        throw createDamaged(`the rows of ${expected.name} differ from the manifest`);
    }
    await handler.onManifest?.(parsed);
    return parsed;
  }

  return {
    header,
    findManifest: () => manifest,

    async add(path, content) {
      if (manifest) throw createDamaged(`${path} follows the manifest`);
      if (path === MANIFEST_PATH) manifest = await end(content);
      else if (path === SECRET_PATH && current < 0 && header.jwt_secret.state === "included")
        await handler.onSecret?.(content.toString().trim());
      else await addRows(path, content);
    },
  };
}

const areSumsEqual = (left: TableEnd, right: TableEnd): boolean =>
  left.name === right.name &&
  left.rows === right.rows &&
  left.bytes === right.bytes &&
  left.parts === right.parts &&
  left.checksum === right.checksum;
