import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parseEnv } from "node:util";
import { deployFolder, readYaml } from "./yaml-file.ts";

/** The parts of a service that these tests read. The schema defines the rest. */
export type Service = {
  image: string;
  build?: { context: string };
  environment?: Record<string, string>;
  secrets?: string[];
  volumes?: string[];
  networks?: string[] | Record<string, { ipv4_address?: string }>;
  ports?: string[];
  depends_on?: Record<string, { condition: string; required?: boolean }>;
  healthcheck?: { test: string[] };
  stop_grace_period?: string;
  restart?: string;
  read_only?: boolean;
  cap_drop?: string[];
  cap_add?: string[];
  security_opt?: string[];
  user?: string;
  tmpfs?: string[];
  logging?: { driver: string; options: Record<string, string> };
  deploy?: { resources: { limits: { cpus: string; memory: string; pids: number } } };
  command?: string[];
  profiles?: string[];
};

export type ComposeFile = {
  name: string;
  services: Record<string, Service>;
  networks?: Record<string, { internal?: boolean; ipam?: { config: { subnet: string; ip_range: string }[] } } | null>;
  volumes?: Record<string, null>;
  secrets?: Record<string, { file: string }>;
};

export const composeFolder = join(deployFolder, "compose");
export const monitoringFolder = join(deployFolder, "monitoring");

/**
 * A compose file as Docker reads it, with these variables in place of `${NAME}`.
 * @throws Error with the file's own message for a missing required variable.
 */
export function readCompose(environment: string, variables: Record<string, string | undefined> = {}): ComposeFile {
  const [content] = readYaml(join(composeFolder, `compose.${environment}.yaml`));
  return interpolate(content, variables) as ComposeFile;
}

/** The values of the example next to a compose file. */
export const readExample = (environment: string) =>
  parseEnv(readFileSync(join(composeFolder, `${environment}.env.example`), "utf8")) as Record<string, string>;

/** `${NAME}`, `${NAME:-default}` and `${NAME:?message}` in every string except keys; no other forms are used. */
function interpolate(value: unknown, variables: Record<string, string | undefined>): unknown {
  if (Array.isArray(value)) return value.map((part) => interpolate(part, variables));
  if (typeof value === "object" && value !== null)
    return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, interpolate(part, variables)]));
  if (typeof value !== "string") return value;
  return value.replaceAll(
    /\$(?:\{(\w+)(?::([-?])([^}]*))?\}|.?)/g,
    (form, name?: string, operator?: string, text = "") => {
      if (name === undefined) throw new Error(`${form} in "${value}" is not a variable form that Docker supports.`);
      const given = variables[name];
      if (given) return given;
      if (operator === "?") throw new Error(text);
      return text;
    },
  );
}

/** A duration like `35s`, `1m30s` or `10m`, in milliseconds. */
export function parseDurationMs(text: string): number {
  const unitMs: Record<string, number> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };
  const parts = [...text.matchAll(/(\d+)(ms|[smh])/g)];
  if (parts.length === 0 || parts.map(([part]) => part).join("") !== text)
    throw new Error(`${text} is not a duration.`);
  return parts.reduce((sum, [, amount, unit = ""]) => sum + Number(amount) * (unitMs[unit] ?? Number.NaN), 0);
}
