import { expect, test } from "bun:test";
import { statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { openBackupFolder } from "../../src/commands/upgrade/backup-folder.ts";
import { createFolder } from "./run-parley.ts";

const isRoot = process.getuid?.() === 0;
const user = { uid: 65534, gid: 65534 };

test.if(isRoot)("every folder created for the backup, and no other, belongs to the user who writes it", () => {
  using folder = createFolder();
  const { uid } = statSync(folder.path);
  openBackupFolder(join(folder.path, "one", "two", "three"), user);
  for (const made of ["one", "one/two", "one/two/three"])
    expect(statSync(join(folder.path, made))).toMatchObject({ uid: user.uid, gid: user.gid });
  expect(statSync(folder.path).uid).toBe(uid);

  // An existing folder keeps its owner, also behind a symlink.
  const other = join(folder.path, "other");
  openBackupFolder(other, undefined);
  symlinkSync(other, join(folder.path, "link"));
  openBackupFolder(join(folder.path, "link"), user);
  expect(statSync(other)).toMatchObject({ uid });
});

test("a file in its place is rejected with one sentence", () => {
  using folder = createFolder();
  const file = join(folder.path, "file");
  writeFileSync(file, "");
  expect(() => openBackupFolder(join(file, "backups"), undefined)).toThrow(
    `${file}/backups can't be created for the backup; choose another place with --backup FILE.`,
  );
});
