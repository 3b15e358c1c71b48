import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parseEnv } from "node:util";
import { deployFolder, readYaml } from "./yaml-file.ts";

/** The fields of a service that the tests use. */
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
 * Reads a compose file and replaces each `${NAME}` with the variable's value, as Docker does.
 * @throws Error with the message in the file if a required variable is missing.
 */
export function readCompose(environment: string, variables: Record<string, string | undefined> = {}): ComposeFile {
  const [content] = readYaml(join(composeFolder, `compose.${environment}.yaml`));
  return interpolate(content, variables) as ComposeFile;
}

/** Reads the variables in the `.env.example` file next to a compose file. */
export const readExampleEnv = (environment: string) =>
  parseEnv(readFileSync(join(composeFolder, `${environment}.env.example`), "utf8")) as Record<string, string>;

/** Replaces `${NAME}`, `${NAME:-default}` and `${NAME:?message}` in every string except keys. */
function interpolate(value: unknown, variables: Record<string, string | undefined>): unknown {
  if (Array.isArray(value)) return value.map((item) => interpolate(item, variables));
  if (typeof value === "object" && value !== null)
    return Object.fromEntries(Object.entries(value).map(([key, field]) => [key, interpolate(field, variables)]));
  if (typeof value !== "string") return value;
  return value.replaceAll(
    /\$(?:\{(\w+)(?::([-?])([^}]*))?\}|.?)/g,
    (expression, name?: string, operator?: string, text = "") => {
      if (name === undefined) throw new Error(`Docker doesn't support the variable ${expression} in "${value}".`);
      const variable = variables[name];
      if (variable) return variable;
      if (operator === "?") throw new Error(text);
      return text;
    },
  );
}

/** Parses a duration like `35s`, `1m30s` or `10m`. */
export function parseDurationMs(text: string): number {
  const unitMs: Record<string, number> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };
  const parts = [...text.matchAll(/(\d+)(ms|[smh])/g)];
  if (parts.length === 0 || parts.map(([part]) => part).join("") !== text)
    throw new Error(`${text} is not a duration.`);
  return parts.reduce((sum, [, count, unit = ""]) => sum + Number(count) * (unitMs[unit] ?? Number.NaN), 0);
}
