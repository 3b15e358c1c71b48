import type { BackupFile, ByteSource } from "../../db/archive.ts";

/** Where scheduled backups lie. Names are those of names.ts. */
export interface BackupStore {
  /** For people. */
  place: string;
  /**
   * Makes ready for a backup of about `expectedBytes` (null: not known), and clears away what broken ones have left.
   * @throws ArchiveError when there is no room for it.
   */
  prepare(expectedBytes: number | null): Promise<void>;
  /** The file appears under its name when it is whole. @throws ArchiveError. */
  create(name: string): Promise<BackupFile>;
  /**
   * Reads a backup that was just written.
   * @throws ArchiveError when it isn't there, or has another length than what was written.
   */
  read(name: string, bytes: number): Promise<ByteSource>;
  list(): Promise<string[]>;
  remove(name: string): Promise<void>;
}
