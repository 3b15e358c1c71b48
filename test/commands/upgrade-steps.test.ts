import { expect, test } from "bun:test";
import { describeNextSteps, SERVICE_TARGET } from "../../src/commands/upgrade/rollback.ts";

const service = {
  target: SERVICE_TARGET,
  isService: true,
  replacedVersion: "0.1.0 (0123456789ab)",
  backupPath: "/var/lib/parley/backups/a.backup",
  pendingMigrations: ["0016_more.sql"],
  clusterDir: "/var/lib/parley/postgres",
  database: "the embedded database in /var/lib/parley",
};

/** Lists the printed rollback steps. */
const listRollbackSteps = (steps: Parameters<typeof describeNextSteps>[0]): string[] =>
  (describeNextSteps(steps).split("To roll back to 0.1.0 (0123456789ab):\n")[1] ?? "").split("\n");

test("the rollback of an upgrade with new migrations restores the old executable and the backup", () => {
  expect(describeNextSteps(service)).toStartWith(
    "The running server was not restarted. To use the new version: systemctl restart parley\nBackup: /var/lib/parley/backups/a.backup\n",
  );
  expect(listRollbackSteps(service)).toEqual([
    "  systemctl stop parley",
    "  mv /usr/local/bin/parley.previous /usr/local/bin/parley",
    "  mv /var/lib/parley/postgres /var/lib/parley/postgres.after-upgrade",
    "  parley-run restore /var/lib/parley/backups/a.backup",
    "  # The backup doesn't contain data stored after the upgrade.",
    "  systemctl start parley",
  ]);
});

test("the rollback of an upgrade without new migrations restores only the old executable", () => {
  expect(listRollbackSteps({ ...service, pendingMigrations: [] })).toEqual([
    "  systemctl stop parley",
    "  mv /usr/local/bin/parley.previous /usr/local/bin/parley",
    "  systemctl start parley",
    "No restore is needed: the new version has no new migrations.",
  ]);
});

test("rollback steps without systemd or an embedded database are manual, and paths are quoted", () => {
  const lines = listRollbackSteps({
    ...service,
    target: "/opt/my parley/it's",
    isService: false,
    clusterDir: null,
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

test("if the upgrade made no backup, the rollback steps say when to restore an earlier one", () => {
  expect(listRollbackSteps({ ...service, backupPath: null, pendingMigrations: null })).toContain(
    "  # If the new version has migrated the database: restore a pre-upgrade backup into an empty database.",
  );
});
