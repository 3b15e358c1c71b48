import type { BackupFile, ByteSource } from "../../db/archive.ts";

/** Storage of scheduled backups. Names are those of names.ts. */
export interface BackupStore {
  /** A readable description of the location. */
  place: string;
  /**
   * Prepares for a backup of about `expectedBytes` (null: unknown), and removes the remains of interrupted ones.
   * @throws ArchiveError if there isn't enough space.
   */
  prepare(expectedBytes: number | null): Promise<void>;
  /** The file gets its name only when it is complete. @throws ArchiveError. */
  create(name: string): Promise<BackupFile>;
  /**
   * Reads a backup that was just written.
   * @throws ArchiveError if it doesn't exist, or its length differs from what was written.
   */
  read(name: string, bytes: number): Promise<ByteSource>;
  list(): Promise<string[]>;
  remove(name: string): Promise<void>;
}
