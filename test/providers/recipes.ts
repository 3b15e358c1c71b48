import { readFileSync } from "node:fs";
import { join } from "node:path";
import { cloudServers } from "../support/compatible-servers/cloud-servers.ts";
import { hostedServers } from "../support/compatible-servers/hosted-servers.ts";
import { localServers } from "../support/compatible-servers/local-servers.ts";
import type { Quirks } from "../support/compatible-servers/quirks.ts";

export const allServers: readonly Quirks[] = [...localServers, ...hostedServers, ...cloudServers];

/** A recipe of docs/providers.md: the environment that its lines create in a shell. */
export type Recipe = { heading: string; block: number; lines: string; environment: Record<string, string> };

const guide = readFileSync(join(import.meta.dir, "../../docs/providers.md"), "utf8");

/** All recipes under the headings of servers: one per block of shell lines under a separate heading. */
export function listRecipes(): Recipe[] {
  const section = guide.split("\n## Several OpenAI-compatible servers\n")[1]?.split("\n## ")[0] ?? "";
  return section
    .split("\n### ")
    .slice(1)
    .flatMap((part) => {
      const heading = part.slice(0, part.indexOf("\n"));
      const blocks = [...part.matchAll(/```sh\n(.*?)```/gs)].map(([, lines = ""]) => lines);
      return blocks.map((lines, block) => ({ heading, block, lines, environment: runLines(lines) }));
    });
}

function runLines(lines: string): Record<string, string> {
  const { stdout, exitCode } = Bun.spawnSync(["/bin/sh", "-euc", `${lines}\nenv -0`], {
    env: { PATH: "/usr/bin:/bin" },
  });
  if (exitCode !== 0) throw new Error(`The shell can't run: ${lines}`);
  const entries = stdout
    .toString()
    .split("\0")
    .filter((entry) => entry !== "")
    .map((entry) => [entry.slice(0, entry.indexOf("=")), entry.slice(entry.indexOf("=") + 1)]);
  return Object.fromEntries(entries.filter(([name]) => /^(?:AI_|OPENAI_|ANTHROPIC_|COMPATIBLE_)/.test(name ?? "")));
}

/** The recipe with the origin of its server replaced; paths and queries stay the same. */
export function pointTo(environment: Record<string, string>, origin: string): Record<string, string> {
  const providers = (environment.AI_PROVIDERS ?? "").replace(/=https?:\/\/[^/]+/, `=${origin}`);
  return { ...environment, AI_PROVIDERS: providers };
}

/** The only key of a recipe, as its server receives it; null: none. */
export function findKey(environment: Record<string, string>, { credential }: Quirks): string | null {
  if (credential === null) return null;
  const find = (end: string) => Object.entries(environment).find(([name]) => name.endsWith(end))?.[1];
  if (credential.field === "authorization") return find("_API_KEY") ?? null;
  const headers = JSON.parse(find("_HEADERS") ?? "{}") as Record<string, string>;
  return headers[credential.field] ?? null;
}
