import { expect, test } from "bun:test";
import { describeMissingRequirement } from "../../src/db/embedded/requirements.ts";

// What initdb said in a root with nothing but the C library.
const noLibrary =
  "/var/cache/parley/postgres-18.4/bin/initdb: error while loading shared libraries: libstdc++.so.6: cannot open shared object file: No such file or directory";
const noServer = 'program "postgres" is needed by initdb but was not found in the same directory as "/x/bin/initdb"';

test.each([
  [noLibrary, false, "libstdc++.so.6 (package libstdc++6 on Debian and Ubuntu, libstdc++ elsewhere) and /bin/sh"],
  [noLibrary.replace("libstdc++.so.6", "libz.so.1"), true, "libz.so.1"],
  [noServer, false, "/bin/sh"],
])("a bare system is told what it lacks: %s, shell: %p", (said, hasShell, missing) => {
  expect(describeMissingRequirement(said, () => hasShell)).toBe(
    `This machine lacks ${missing}, which the embedded Postgres needs: install it, or set DATABASE_URL to the address of a PostgreSQL server.`,
  );
});

test("a full disk is not taken for a bare system", () => {
  expect(describeMissingRequirement("initdb: error: No space left on device", () => true)).toBeNull();
});
