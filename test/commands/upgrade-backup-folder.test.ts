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
    for (const createdFolder of ["one", "one/two", "one/two/three"])
      expect(statSync(join(folder.path, createdFolder))).toMatchObject({ uid: user.uid, gid: user.gid });
    expect(statSync(folder.path).uid).toBe(uid);

    // An existing folder keeps its owner, even behind a symlink.
    const existingFolder = join(folder.path, "existing");
    createBackupFolder(existingFolder, undefined);
    symlinkSync(existingFolder, join(folder.path, "link"));
    createBackupFolder(join(folder.path, "link"), user);
    expect(statSync(existingFolder)).toMatchObject({ uid });
  },
);

test("a backup folder can't be created if its parent is a file", () => {
  using folder = createFolder();
  const file = join(folder.path, "file");
  writeFileSync(file, "");
  expect(() => createBackupFolder(join(file, "backups"), undefined)).toThrow(
    `${file}/backups can't be created for the backup; choose a different path with --backup FILE.`,
  );
});
