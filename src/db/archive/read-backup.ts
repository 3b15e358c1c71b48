import type { ByteSource } from "./byte-reader.ts";
import { createDamaged } from "./error.ts";
import {
  type ArchiveHeader,
  type ArchiveManifest,
  HEADER_PATH,
  MANIFEST_PATH,
  partPath,
  readHeader,
  readManifest,
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
  /** Receives rows of a table in COPY's text format, split anywhere. */
  onRows?(table: ArchiveHeader["tables"][number], content: Buffer): Promise<void>;
  onTableEnd?(table: ArchiveHeader["tables"][number]): Promise<void>;
  /** Called once the contents match the manifest. The checksum of the file hasn't been verified yet. */
  onManifest?(manifest: ArchiveManifest): Promise<void>;
  onProgress?: ((progress: Progress) => void) | undefined;
};

/**
 * Reads a backup once, front to back, and verifies it: each part as it arrives, the rows of each table against the manifest,
 * and the whole file by its SHA-256.
 * @throws ArchiveError as openArchive does; whatever the handler throws.
 */
export async function readBackup(
  source: ByteSource,
  options: ReadOptions,
  handler: BackupHandler,
): Promise<BackupSummary> {
  const archive = await openArchive(source, options);
  try {
    let contents: Contents | undefined;
    for await (const { path, content } of archive.entries) {
      if (contents) await contents.add(path, Buffer.from(content.buffer, content.byteOffset, content.length));
      else if (path === HEADER_PATH) {
        const header = readHeader(content);
        await handler.onHeader?.(header);
        contents = createContents(header, handler);
      } else throw createDamaged(`${path} comes before ${HEADER_PATH}`);
    }
    const manifest = contents?.findManifest();
    if (!contents || !manifest) throw createDamaged(`it has no ${MANIFEST_PATH}`);
    return createSummary(contents.header, manifest, archive.isEncrypted);
  } finally {
    await archive.close();
  }
}

type Contents = {
  header: ArchiveHeader;
  add(path: string, content: Buffer): Promise<void>;
  findManifest(): ArchiveManifest | undefined;
};

/** Processes the entries after the header: the secret, the tables in the header's order, the manifest. */
function createContents(header: ArchiveHeader, handler: BackupHandler): Contents {
  const tables = header.tables.map((table) => ({ table, digest: createRowDigest(), parts: 0 }));
  let current = -1;
  let rows = 0;
  let dataBytes = 0;
  let manifest: ArchiveManifest | undefined;

  /** Completes the current table and any following tables without rows, up to `until`. */
  async function advance(until: number): Promise<void> {
    for (; current < until; current += 1) {
      const ended = tables[current];
      if (!ended) continue;
      const sums = ended.digest.end();
      rows += sums.rows;
      dataBytes += sums.bytes;
      await handler.onTableEnd?.(ended.table);
    }
  }

  async function addRows(path: string, content: Buffer): Promise<void> {
    // This is the next part of the current table, or the first part of a later one.
    const place = tables.findIndex(
      ({ table, parts }, place) => place >= current && partPath(table.name, parts + 1) === path,
    );
    const found = tables[place];
    if (!found) throw createDamaged(`${path} is unexpected here`);
    await advance(place);
    found.parts += 1;
    found.digest.add(content);
    await handler.onRows?.(found.table, content);
    const sums = found.digest.end();
    handler.onProgress?.({
      table: found.table.name,
      rows: rows + sums.rows,
      dataBytes: dataBytes + sums.bytes,
      done: null,
    });
  }

  async function end(content: Buffer): Promise<ArchiveManifest> {
    await advance(tables.length);
    const read = readManifest(content);
    if (read.tables.length !== tables.length) throw createDamaged("its manifest names other tables");
    for (const [place, expected] of read.tables.entries()) {
      const found = tables[place];
      const sums: TableEnd | undefined = found && { name: found.table.name, parts: found.parts, ...found.digest.end() };
      if (!found?.digest.isWhole() || !sums || !isSame(sums, expected))
        throw createDamaged(`the rows of ${expected.name} differ from the manifest`);
    }
    await handler.onManifest?.(read);
    return read;
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

const isSame = (one: TableEnd, other: TableEnd): boolean =>
  one.name === other.name &&
  one.rows === other.rows &&
  one.bytes === other.bytes &&
  one.parts === other.parts &&
  one.checksum === other.checksum;
