import type { DoctorCheck } from "./check.ts";
import { ok, problem } from "./finding.ts";

/** Noon UTC in July in New York, which has daylight saving time then. */
const SUMMER = new Date("2024-07-01T12:00:00Z");
const SUMMER_HOUR = "08";

/** Times of backups depend on time zones, and the order of names on the data of ICU. */
export const timeZonesCheck: DoctorCheck = {
  name: "time zones",
  find() {
    const hour = readHour("America/New_York");
    if (hour !== SUMMER_HOUR)
      return [
        problem("The data of time zones is missing, so BACKUP_TIMEZONE has no effect; download the executable again."),
      ];
    return [ok("Time zones and Unicode data are available.")];
  },
};

function readHour(timeZone: string): string {
  return new Intl.DateTimeFormat("en-GB", { hour: "2-digit", hourCycle: "h23", timeZone }).format(SUMMER);
}
