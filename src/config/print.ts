import type { TSchema } from "@sinclair/typebox";
import { maskAddress, maskSecretAddress } from "../lib/mask-address.ts";
import { MASK } from "../lib/userinfo.ts";
import { listSettingEntries, listSettingsInDocs, readSetting } from "./setting-entries.ts";
import type { SettingOptions, Settings } from "./settings.ts";

/** Where a value comes from: `environment`, `.env`, `NAME_FILE` or `default`. */
export type SettingSources = ReadonlyMap<string, string>;

/** Columns of a value before its source; a longer one pushes it to the right. */
const VALUE_COLUMNS = 40;

/** The effective configuration as lines `NAME=value  # source`, secrets masked. */
export function printConfig(config: Settings, sources: SettingSources = new Map()): string {
  return listSettingEntries(config)
    .map(([name, schema]) => {
      const value = readSetting(config, name);
      if (value === undefined) return `# ${name} is not set`;
      const setting = `${name}=${[value]
        .flat()
        .map((part) => maskValue(schema, String(part)))
        .join(",")}`;
      const source = sources.get(name);
      return source === undefined ? setting : `${setting.padEnd(VALUE_COLUMNS)}  # ${source}`;
    })
    .join("\n");
}

function maskValue({ secret, isAddress }: SettingOptions, value: string): string {
  if (!secret) return maskAddress(value);
  return isAddress ? maskSecretAddress(value) : MASK;
}

/** The text of `.env.example`. */
export function printEnvExample(): string {
  const blocks = listSettingsInDocs().map(([name, schema]) => {
    const value = schema.example ?? showDefault(schema);
    return `# ${schema.description}\n# ${name}=${value}`;
  });
  return `# Every setting of Parley, with its default or a sample. Made by \`make docs\`; do not edit.\n\n${blocks.join("\n\n")}\n`;
}

/** The settings as a markdown table, for the docs. */
export function printConfigTable(): string {
  const rows = listSettingsInDocs().map(([name, schema]) => {
    const file = schema.secret ? ` (or \`${name}_FILE\`)` : "";
    const fallback = showDefault(schema);
    return `| \`${name}\`${file} | ${fallback ? `\`${fallback}\`` : ""} | ${schema.description.replaceAll("|", "\\|")} |`;
  });
  return ["| name | default | meaning |", "| --- | --- | --- |", ...rows].join("\n");
}

function showDefault(schema: TSchema): string {
  if (schema.default === undefined) return "";
  return Array.isArray(schema.default) ? schema.default.join(",") : String(schema.default);
}
