/** Bytes of one file; a larger one is not served. */
export const FILE_BYTES_MAX = 1024 * 1024;
/** Documents of one folder, in the order of their paths; the others are not served. */
export const FILES_MAX = 10_000;

export type DocumentFile = {
  path: string;
  /** The whole text, as it is in the file. */
  content: string;
  /** Bytes. */
  size: number;
  /** SHA-256 of the bytes. */
  hash: string;
  updatedAt: Date;
};

/** A file that is there now. `stamp` differs whenever the file may have changed. */
export type DocumentEntry = { path: string; stamp: string };

/** A file that looks like a document and is not served. */
export type SkippedFile = { path: string; reason: string };

/** Where the documents are. */
export type DocumentSource = {
  /** Every document there is now. Rejects when the folder itself cannot be read. */
  list(): Promise<{ entries: DocumentEntry[]; skipped: SkippedFile[] }>;
  /** The file as it is now, or null when there is no such document. Trusts nothing about the path. */
  read(path: string): Promise<DocumentFile | null>;
};

/** A file's text and what is known of it. Bytes that are not UTF-8 are shown as replacement characters. */
export function createDocumentFile(path: string, bytes: Uint8Array, updatedAt: Date): DocumentFile {
  return {
    path,
    content: new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes),
    size: bytes.byteLength,
    hash: new Bun.CryptoHasher("sha256").update(bytes).digest("hex"),
    updatedAt,
  };
}
