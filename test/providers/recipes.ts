import { readFileSync } from "node:fs";
import { join } from "node:path";
import { cloudServers } from "../support/compatible-servers/cloud-servers.ts";
import { hostedServers } from "../support/compatible-servers/hosted-servers.ts";
import { localServers } from "../support/compatible-servers/local-servers.ts";
import type { ServerProfile } from "../support/compatible-servers/server-profile.ts";

export const allServers: readonly ServerProfile[] = [...localServers, ...hostedServers, ...cloudServers];

/** A recipe from docs/providers.md, with the environment variables that its lines set in a shell. */
export type Recipe = { heading: string; block: number; lines: string; environment: Record<string, string> };

const guide = readFileSync(join(import.meta.dir, "../../docs/providers.md"), "utf8");

/** Lists all recipes for servers. Each block of shell lines is one recipe. */
export function listRecipes(): Recipe[] {
  const section = guide.split("\n## Several OpenAI-compatible servers\n")[1]?.split("\n## ")[0] ?? "";
  return section
    .split("\n### ")
    .slice(1)
    .flatMap((part) => {
      const heading = part.slice(0, part.indexOf("\n"));
      const blocks = [...part.matchAll(/```sh\n(.*?)```/gs)].map(([, lines = ""]) => lines);
      return blocks.map((lines, block) => ({ heading, block, lines, environment: runInShell(lines) }));
    });
}

function runInShell(lines: string): Record<string, string> {
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

/** Changes the origin of the recipe's server URL, but keeps its path and query. */
export function replaceServerOrigin(environment: Record<string, string>, origin: string): Record<string, string> {
  const providers = (environment.AI_PROVIDERS ?? "").replace(/=https?:\/\/[^/]+/, `=${origin}`);
  return { ...environment, AI_PROVIDERS: providers };
}

/** Returns the recipe's API key in the format that its server receives, or null if the server needs none. */
export function findKey(environment: Record<string, string>, { credential }: ServerProfile): string | null {
  if (credential === null) return null;
  const findVariable = (end: string) => Object.entries(environment).find(([name]) => name.endsWith(end))?.[1];
  if (credential.field === "authorization") return findVariable("_API_KEY") ?? null;
  const headers = JSON.parse(findVariable("_HEADERS") ?? "{}") as Record<string, string>;
  return headers[credential.field] ?? null;
}
