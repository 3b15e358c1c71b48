import type { TSchema } from "@sinclair/typebox";
import { type Settings, settingEntries } from "./settings.ts";

/** The effective configuration as lines `NAME=value`, secrets masked. */
export function printConfig(config: Settings): string {
  return settingEntries
    .map(([name, schema]) => {
      const value = config[name];
      if (value === undefined) return `# ${name} is not set`;
      const isHidden = schema.secret && !(Array.isArray(value) && value.length === 0);
      const shown = isHidden ? "********" : Array.isArray(value) ? value.join(",") : String(value);
      return `${name}=${shown}`;
    })
    .join("\n");
}

/** The text of `.env.example`. */
export function printEnvExample(): string {
  const blocks = settingEntries.map(([name, schema]) => {
    const value = schema.example ?? showDefault(schema);
    return `# ${schema.description}\n# ${name}=${value}`;
  });
  return `# Every setting of Parley, with its default or a sample. Made by \`make docs\`; do not edit.\n\n${blocks.join("\n\n")}\n`;
}

/** The settings as a markdown table, for the docs. */
export function printConfigTable(): string {
  const rows = settingEntries.map(([name, schema]) => {
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
