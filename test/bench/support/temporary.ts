import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

type Undo = () => unknown;

const undos: Undo[] = [];

/** Registers an undo function; all of them run in reverse order at the end, also after an error or Ctrl-C. */
export function onEnd(undo: Undo): void {
  undos.push(undo);
}

export async function undoAll(): Promise<void> {
  for (let undo = undos.pop(); undo; undo = undos.pop()) await undo();
}

/** A new folder that is removed at the end. */
export function createTemporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "parley-bench-"));
  onEnd(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** A free port of 127.0.0.1. */
export function findFreePort(): number {
  const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const { port } = listener;
  listener.stop(true);
  return port;
}
