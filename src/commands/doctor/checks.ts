import { backupsCheck } from "./backups.ts";
import { certificateCheck } from "./certificate.ts";
import type { DoctorCheck } from "./check.ts";
import { databaseCheck } from "./database.ts";
import { diskCheck } from "./disk.ts";
import { embeddedCheck } from "./embedded.ts";
import { limitsCheck } from "./limits.ts";
import { mcpCheck } from "./mcp.ts";
import { oidcCheck } from "./oidc.ts";
import { portCheck } from "./port.ts";
import { providersCheck } from "./providers.ts";
import { redisCheck } from "./redis.ts";
import { timeZonesCheck } from "./time-zones.ts";
import { tracingCheck } from "./tracing.ts";

/** The checks in report order, between the configuration check (first) and the clock check (last). */
export const doctorChecks: readonly DoctorCheck[] = [
  portCheck,
  certificateCheck,
  embeddedCheck,
  databaseCheck,
  redisCheck,
  providersCheck,
  mcpCheck,
  oidcCheck,
  tracingCheck,
  backupsCheck,
  diskCheck,
  limitsCheck,
  timeZonesCheck,
];
