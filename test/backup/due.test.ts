import { describe, expect, test } from "bun:test";
import type { ScheduleState } from "../../src/modules/backups/queries.ts";
import { getRetryDelayMs, isBackupDue } from "../../src/modules/backups/schedule.ts";

const NIGHTLY = "15 2 * * *";

describe("a backup", () => {
  const createState = (now: string, doneUntil: string, changes: Partial<ScheduleState> = {}): ScheduleState => ({
    origin: "0123abcd",
    now: new Date(now),
    doneUntil: new Date(doneUntil),
    succeededAt: null,
    bytes: null,
    failures: 0,
    retryAt: null,
    ...changes,
  });

  test.each([
    ["isn't due before its scheduled time", "2026-11-29T02:14:59Z", "2026-11-28T02:15:30Z", "UTC", false],
    ["is due at its scheduled time", "2026-11-29T02:15:00Z", "2026-11-28T02:15:30Z", "UTC", true],
    ["is due once after days without a running instance", "2026-12-24T13:00:00Z", "2026-11-28T02:15:30Z", "UTC", true],
    ["isn't due again right after it was created", "2026-12-24T13:00:05Z", "2026-12-24T13:00:03Z", "UTC", false],
    [
      "is due at the scheduled time in its time zone",
      "2026-07-01T00:15:00Z",
      "2026-06-30T00:16:00Z",
      "Europe/Berlin",
      true,
    ],
    [
      "isn't due at the same UTC time in winter",
      "2026-12-01T00:15:00Z",
      "2026-11-30T01:16:00Z",
      "Europe/Berlin",
      false,
    ],
  ])("%s", (_, now, doneUntil, timeZone, isDue) => {
    expect(isBackupDue(createState(now, doneUntil), NIGHTLY, timeZone)).toBe(isDue);
  });

  test("isn't due after a failure before its retry time", () => {
    const createFailedState = (now: string) =>
      createState(now, "2026-11-28T02:15:30Z", { failures: 1, retryAt: new Date("2026-11-29T02:16:00Z") });
    expect(isBackupDue(createFailedState("2026-11-29T02:15:59Z"), NIGHTLY, "UTC")).toBe(false);
    expect(isBackupDue(createFailedState("2026-11-29T02:16:00Z"), NIGHTLY, "UTC")).toBe(true);
  });

  test("is retried with increasing delays of up to an hour", () => {
    expect([1, 2, 3, 7, 100].map(getRetryDelayMs)).toEqual([60_000, 120_000, 240_000, 3_600_000, 3_600_000]);
  });
});
