import { expect, test } from "bun:test";
import { describeNextSteps, SERVICE_TARGET } from "../../src/commands/upgrade/rollback.ts";

const service = {
  target: SERVICE_TARGET,
  isService: true,
  from: "0.1.0 (0123456789ab)",
  backup: "/var/lib/parley/backups/a.backup",
  pending: ["0016_more.sql"],
  cluster: "/var/lib/parley/postgres",
  database: "the embedded database in /var/lib/parley",
};

/** The lines below "To roll back". */
const rollbackOf = (steps: Parameters<typeof describeNextSteps>[0]): string[] =>
  (describeNextSteps(steps).split("To roll back to 0.1.0 (0123456789ab):\n")[1] ?? "").split("\n");

test("with new migrations, a rollback needs the old executable and the backup", () => {
  expect(describeNextSteps(service)).toStartWith(
    "The running server was not restarted. To use the new version: systemctl restart parley\nBackup: /var/lib/parley/backups/a.backup\n",
  );
  expect(rollbackOf(service)).toEqual([
    "  systemctl stop parley",
    "  mv /usr/local/bin/parley.previous /usr/local/bin/parley",
    "  mv /var/lib/parley/postgres /var/lib/parley/postgres.after-upgrade",
    "  parley-run restore /var/lib/parley/backups/a.backup",
    "  # The backup doesn't contain data stored after the upgrade.",
    "  systemctl start parley",
  ]);
});

test("without new migrations, the old executable is enough", () => {
  expect(rollbackOf({ ...service, pending: [] })).toEqual([
    "  systemctl stop parley",
    "  mv /usr/local/bin/parley.previous /usr/local/bin/parley",
    "  systemctl start parley",
    "No restore is needed: the new version has no new migrations.",
  ]);
});

test("a server's database is recreated manually; names with spaces are quoted; without systemd the server is stopped manually", () => {
  const lines = rollbackOf({
    ...service,
    target: "/opt/my parley/it's",
    isService: false,
    cluster: null,
    database: "the database chat on db.example.com",
  });
  expect(lines).toEqual([
    "  stop the running `parley serve`",
    "  mv '/opt/my parley/it'\\''s.previous' '/opt/my parley/it'\\''s'",
    "  drop the database chat on db.example.com and create it again",
    "  '/opt/my parley/it'\\''s' restore /var/lib/parley/backups/a.backup",
    "  # The backup doesn't contain data stored after the upgrade.",
    "  start `parley serve` again",
  ]);
});

test("without a backup, it doesn't claim that none is needed", () => {
  expect(rollbackOf({ ...service, backup: null, pending: null })).toContain(
    "  # If the new version has migrated the database: restore a backup from before the upgrade into an empty one.",
  );
});
