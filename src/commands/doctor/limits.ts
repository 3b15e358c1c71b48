import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Config } from "../../config.ts";
import { EXTRA_CONNECTIONS_MAX } from "../../db/connect.ts";
import { isAlive } from "../../db/embedded/process.ts";
import { formatBytes } from "../../lib/format-bytes.ts";
import type { DoctorCheck } from "./check.ts";
import { addOkIfNoFindings, type Finding, problem, warning } from "./finding.ts";
import { type MachineFacts, readMachineFacts } from "./machine-facts.ts";

/** Number of files that Parley itself opens: the executable, logs, and connections to providers, Redis and webhooks. */
const PARLEY_FILES = 200;
/** A limit that allows fewer clients than this is probably not intended. */
const CLIENTS_MIN = 1_000;
const MEMORY_PROBLEM_BYTES = 200e6;
const MEMORY_WARNING_BYTES = 500e6;
const FREE_MEMORY_WARNING_BYTES = 200e6;
const BACKLOG_MIN = 512;

export const limitsCheck: DoctorCheck = {
  name: "limits",
  run({ config }) {
    const pid = findServerPid(config);
    const facts = readMachineFacts(pid ?? "self");
    const files = facts.openFilesMax === null ? "unknown" : facts.openFilesMax.toLocaleString("en");
    const memory =
      facts.memoryMaxBytes === null || facts.memoryMaxBytes > 1e15 ? "no limit" : formatBytes(facts.memoryMaxBytes);
    return addOkIfNoFindings(
      checkLimits(facts, config, pid !== null),
      `Open files: ${files}${pid === null ? "" : ` (of the running process ${pid})`}; memory: ${memory}, ${formatBytes(facts.memoryFreeBytes)} free.`,
    );
  },
};

/** Finds the Parley that runs on the embedded database, because its limits may differ from this shell's. */
function findServerPid(config: Config): number | null {
  try {
    const pid = Number(readFileSync(join(config.DATA_DIR, "parley.lock"), "utf8").trim());
    const isParley = pid > 0 && isAlive(pid) && readFileSync(`/proc/${pid}/comm`, "utf8").startsWith("parley");
    return isParley ? pid : null;
  } catch {
    return null;
  }
}

/** Reports limits that are too low for the configuration. */
export function checkLimits(
  facts: MachineFacts,
  config: Pick<Config, "DATABASE_POOL_SIZE">,
  isRunning: boolean,
): Finding[] {
  const findings: Finding[] = [];
  const neededFiles = config.DATABASE_POOL_SIZE + EXTRA_CONNECTIONS_MAX + PARLEY_FILES;
  const { openFilesMax, memoryMaxBytes, memoryFreeBytes, somaxconn, overcommitMode } = facts;
  const remedy = "raise it (LimitNOFILE= in a systemd unit, `ulimit -n` in a shell, --ulimit nofile= in Docker)";
  if (openFilesMax !== null && openFilesMax < neededFiles)
    findings.push(
      problem(
        `The limit on open files is ${openFilesMax}, but Parley needs ${neededFiles} before any client connects; ${remedy}.`,
      ),
    );
  else if (openFilesMax !== null && openFilesMax < neededFiles + CLIENTS_MIN)
    findings.push(
      warning(
        `The limit on open files is ${openFilesMax}, so only about ${openFilesMax - neededFiles} clients can connect; ${remedy}.`,
      ),
    );
  if (memoryMaxBytes !== null && memoryMaxBytes < MEMORY_WARNING_BYTES)
    findings.push(
      (memoryMaxBytes < MEMORY_PROBLEM_BYTES ? problem : warning)(
        `The memory is limited to ${formatBytes(memoryMaxBytes)}; raise the limit of the container or unit to ${formatBytes(MEMORY_WARNING_BYTES)} or more.`,
      ),
    );
  if (!isRunning && memoryFreeBytes < FREE_MEMORY_WARNING_BYTES)
    findings.push(
      warning(`Only ${formatBytes(memoryFreeBytes)} of memory is free; stop other programs, or use a larger machine.`),
    );
  if (somaxconn !== null && somaxconn < BACKLOG_MIN)
    findings.push(
      warning(
        `net.core.somaxconn is ${somaxconn}, so connections are lost when many clients reconnect simultaneously; set it to 4096 (sysctl).`,
      ),
    );
  if (overcommitMode === 2)
    findings.push(
      warning(
        "vm.overcommit_memory is 2, so allocations may fail while memory is free; set it to 0 (sysctl), or raise vm.overcommit_ratio.",
      ),
    );
  return findings;
}
