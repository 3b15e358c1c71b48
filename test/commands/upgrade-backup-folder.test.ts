import { expect, test } from "bun:test";
import { statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createBackupFolder } from "../../src/commands/upgrade/backup-folder.ts";
import { createFolder } from "./run-parley.ts";

const isRoot = process.getuid?.() === 0;
const user = { uid: 65534, gid: 65534 };

test.if(isRoot)(
  "folders created for the backup belong to the user who writes it, and existing folders keep their owner",
  () => {
    using folder = createFolder();
    const { uid } = statSync(folder.path);
    createBackupFolder(join(folder.path, "one", "two", "three"), user);
    for (const made of ["one", "one/two", "one/two/three"])
      expect(statSync(join(folder.path, made))).toMatchObject({ uid: user.uid, gid: user.gid });
    expect(statSync(folder.path).uid).toBe(uid);

    // An existing folder keeps its owner, even behind a symlink.
    const other = join(folder.path, "other");
    createBackupFolder(other, undefined);
    symlinkSync(other, join(folder.path, "link"));
    createBackupFolder(join(folder.path, "link"), user);
    expect(statSync(other)).toMatchObject({ uid });
  },
);

test("a backup folder whose parent is a file is an error", () => {
  using folder = createFolder();
  const file = join(folder.path, "file");
  writeFileSync(file, "");
  expect(() => createBackupFolder(join(file, "backups"), undefined)).toThrow(
    `${file}/backups can't be created for the backup; choose another path with --backup FILE.`,
  );
});
