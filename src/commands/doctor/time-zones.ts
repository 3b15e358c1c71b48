import type { DoctorCheck } from "./check.ts";
import { ok, problem } from "./finding.ts";

/** 08:00 in New York, in daylight saving time. */
const SUMMER = new Date("2024-07-01T12:00:00Z");
const SUMMER_HOUR = "08";

/** Checks the executable's time zone data, which the backup schedule needs. */
export const timeZonesCheck: DoctorCheck = {
  name: "time zones",
  run() {
    const hour = formatHour("America/New_York");
    if (hour !== SUMMER_HOUR)
      return [
        problem("The time zone data is missing, so BACKUP_TIMEZONE has no effect; download the executable again."),
      ];
    return [ok("Time zones and Unicode data are available.")];
  },
};

function formatHour(timeZone: string): string {
  return new Intl.DateTimeFormat("en-GB", { hour: "2-digit", hourCycle: "h23", timeZone }).format(SUMMER);
}
