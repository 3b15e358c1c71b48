import type { ByteSource } from "./byte-reader.ts";
import { createDamagedError } from "./error.ts";
import {
  type ArchiveHeader,
  type ArchiveManifest,
  getPartPath,
  HEADER_PATH,
  MANIFEST_PATH,
  parseHeader,
  parseManifest,
  SECRET_PATH,
  type TableSummary,
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
 * Reads a backup in one pass and verifies it. Each part is verified when it arrives, each table's rows are compared with the manifest, and
 * the whole file is verified by its SHA-256.
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
      } else throw createDamagedError(`${path} comes before ${HEADER_PATH}`);
    }
    const manifest = contents?.findManifest();
    if (!contents || !manifest) throw createDamagedError(`it has no ${MANIFEST_PATH}`);
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
  let currentIndex = -1;
  let rows = 0;
  let dataBytes = 0;
  let manifest: ArchiveManifest | undefined;

  /** Completes the current table, and all tables without rows that follow it, before the table at `untilIndex`. */
  async function completeTables(untilIndex: number): Promise<void> {
    for (; currentIndex < untilIndex; currentIndex += 1) {
      const completedTable = tables[currentIndex];
      if (!completedTable) continue;
      const sums = completedTable.digest.getSums();
      rows += sums.rows;
      dataBytes += sums.bytes;
      await handler.onTableEnd?.(completedTable.table);
    }
  }

  async function addRows(path: string, content: Buffer): Promise<void> {
    // Only the next part of the current table or the first part of a later table is valid.
    const index = tables.findIndex(
      ({ table, parts }, tableIndex) => tableIndex >= currentIndex && getPartPath(table.name, parts + 1) === path,
    );
    const tableEntry = tables[index];
    if (!tableEntry) throw createDamagedError(`${path} is unexpected here`);
    await completeTables(index);
    tableEntry.parts += 1;
    tableEntry.digest.add(content);
    await handler.onRows?.(tableEntry.table, content);
    const sums = tableEntry.digest.getSums();
    handler.onProgress?.({
      table: tableEntry.table.name,
      rows: rows + sums.rows,
      dataBytes: dataBytes + sums.bytes,
      fractionDone: null,
    });
  }

  async function finishContents(content: Buffer): Promise<ArchiveManifest> {
    await completeTables(tables.length);
    const parsedManifest = parseManifest(content);
    if (parsedManifest.tables.length !== tables.length) throw createDamagedError("its manifest lists different tables");
    for (const [index, expectedSummary] of parsedManifest.tables.entries()) {
      const foundTable = tables[index];
      const sums: TableSummary | undefined = foundTable && {
        name: foundTable.table.name,
        parts: foundTable.parts,
        ...foundTable.digest.getSums(),
      };
      if (!foundTable?.digest.isComplete() || !sums || !areSumsEqual(sums, expectedSummary))
        throw createDamagedError(`the rows of ${expectedSummary.name} differ from the manifest`);
    }
    await handler.onManifest?.(parsedManifest);
    return parsedManifest;
  }

  return {
    header,
    findManifest: () => manifest,

    async add(path, content) {
      if (manifest) throw createDamagedError(`${path} follows the manifest`);
      if (path === MANIFEST_PATH) manifest = await finishContents(content);
      else if (path === SECRET_PATH && currentIndex < 0 && header.jwt_secret.state === "included")
        await handler.onSecret?.(content.toString().trim());
      else await addRows(path, content);
    },
  };
}

const areSumsEqual = (left: TableSummary, right: TableSummary): boolean =>
  left.name === right.name &&
  left.rows === right.rows &&
  left.bytes === right.bytes &&
  left.parts === right.parts &&
  left.checksum === right.checksum;
