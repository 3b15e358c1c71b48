import { statfs } from "node:fs/promises";

/** Returns the free space on a folder's disk in bytes, or null if unknown. */
export async function findFreeBytes(folder: string): Promise<number | null> {
  try {
    const { bavail, bsize } = await statfs(folder);
    return bavail * bsize;
  } catch {
    return null;
  }
}
