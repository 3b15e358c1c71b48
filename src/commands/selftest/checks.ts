import type { Check } from "./check.ts";
import { backupCheck } from "./checks/backup.ts";
import { deliveryCheck } from "./checks/delivery.ts";
import { failoverCheck } from "./checks/failover.ts";
import { idempotencyCheck } from "./checks/idempotency.ts";
import { instancesCheck } from "./checks/instances.ts";
import { killCheck } from "./checks/kill.ts";
import { outsiderCheck } from "./checks/outsider.ts";
import { resumeCheck } from "./checks/resume.ts";
import { shutdownCheck } from "./checks/shutdown.ts";
import { startCheck } from "./checks/start.ts";
import { stormCheck } from "./checks/storm.ts";

/** All checks, in execution order. Each builds on earlier ones. */
export const checks: readonly Check[] = [
  startCheck,
  deliveryCheck,
  idempotencyCheck,
  outsiderCheck,
  failoverCheck,
  killCheck,
  stormCheck,
  resumeCheck,
  instancesCheck,
  backupCheck,
  shutdownCheck,
];
