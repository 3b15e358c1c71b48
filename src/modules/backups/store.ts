import type { BackupFile, ByteSource } from "../../db/archive.ts";

/** Storage for scheduled backups. The format of their names is defined in names.ts. */
export interface BackupStore {
  /** A readable description of the location. */
  location: string;
  /**
   * Prepares for a backup of about `expectedBytes` (null if unknown), and removes partial files of interrupted backups.
   * @throws ArchiveError if there isn't enough space.
   */
  prepare(expectedBytes: number | null): Promise<void>;
  /** Creates a backup. The file has a temporary name until it is complete. @throws ArchiveError. */
  create(name: string): Promise<BackupFile>;
  /**
   * Reads a backup that was just written.
   * @throws ArchiveError if it doesn't exist, or if its length isn't `bytes`.
   */
  read(name: string, bytes: number): Promise<ByteSource>;
  list(): Promise<string[]>;
  remove(name: string): Promise<void>;
}
