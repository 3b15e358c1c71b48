import { statfs } from "node:fs/promises";

/** What may still be written on the disk of a folder, in bytes; null when that cannot be told. */
export async function findFreeBytes(folder: string): Promise<number | null> {
  try {
    const { bavail, bsize } = await statfs(folder);
    return bavail * bsize;
  } catch {
    return null;
  }
}
