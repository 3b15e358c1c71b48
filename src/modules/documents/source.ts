/** Maximum size of a file. Larger files are not served. */
export const FILE_BYTES_MAX = 1024 * 1024;
/** Maximum number of documents in the folder, in path order. Further documents are not served. */
export const FILES_MAX = 10_000;

export type DocumentFile = {
  path: string;
  /** The whole text of the file. */
  content: string;
  /** The size in bytes. */
  size: number;
  /** The SHA-256 of the bytes. */
  hash: string;
  updatedAt: Date;
};

/** An existing file. `stamp` changes whenever the file may have changed. */
export type DocumentEntry = { path: string; stamp: string };

/** A Markdown file that is not served. */
export type SkippedFile = { path: string; reason: string };

/** A source of documents. */
export type DocumentSource = {
  /** Lists all current documents. Rejects if the folder can't be read. */
  list(): Promise<{ entries: DocumentEntry[]; skipped: SkippedFile[] }>;
  /** Reads the current file. Returns null if it doesn't exist. Accepts untrusted paths. */
  read(path: string): Promise<DocumentFile | null>;
};

/** Creates a file from its bytes. Invalid UTF-8 becomes replacement characters. */
export function createDocumentFile(path: string, bytes: Uint8Array, updatedAt: Date): DocumentFile {
  return {
    path,
    content: new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes),
    size: bytes.byteLength,
    hash: new Bun.CryptoHasher("sha256").update(bytes).digest("hex"),
    updatedAt,
  };
}
