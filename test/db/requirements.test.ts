import { expect, test } from "bun:test";
import { describeMissingRequirement } from "../../src/db/embedded/requirements.ts";

// The output of initdb on a system that has only the C library.
const missingLibraryOutput =
  "/var/cache/parley/postgres-18.4/bin/initdb: error while loading shared libraries: libstdc++.so.6: cannot open shared object file: No such file or directory";
const missingServerOutput =
  'program "postgres" is needed by initdb but was not found in the same directory as "/x/bin/initdb"';

test.each([
  [
    missingLibraryOutput,
    false,
    "libstdc++.so.6 (package libstdc++6 on Debian and Ubuntu, libstdc++ elsewhere) and /bin/sh",
  ],
  [missingLibraryOutput.replace("libstdc++.so.6", "libz.so.1"), true, "libz.so.1"],
  [missingServerOutput, false, "/bin/sh"],
])("the error mentions what a minimal system lacks: %s (has a shell: %p)", (output, hasShell, missing) => {
  expect(describeMissingRequirement(output, () => hasShell)).toBe(
    `This machine lacks ${missing}, which the embedded Postgres needs: install it, or set DATABASE_URL to the address of a PostgreSQL server.`,
  );
});

test.each([
  ["setpriv: failed to execute /data/postgres-18.4/bin/initdb: Permission denied\n", "/data/postgres-18.4/bin"],
  ["error: spawn /my data/postgres-18.4/bin/initdb EACCES", "/my data/postgres-18.4/bin"],
])("the error mentions that the disk is mounted with noexec: %s", (output, folder) => {
  expect(describeMissingRequirement(output, () => true)).toBe(
    `${folder}/initdb can't be executed: ${folder} is probably on a disk mounted with \`noexec\`. Set DATA_DIR to a folder on a different disk, or set DATABASE_URL to the address of a PostgreSQL server.`,
  );
});

test("a full disk isn't mistaken for a minimal system", () => {
  expect(describeMissingRequirement("initdb: error: No space left on device", () => true)).toBeNull();
});
