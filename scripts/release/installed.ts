import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { LockedPackage } from "./lockfile.ts";

/** An installed package that is part of an executable. */
export type InstalledPackage = {
  key: string;
  name: string;
  version: string;
  integrity: string;
  dependencies: string[];
  folder: string;
  /** From its package.json; usually an SPDX expression. */
  license: string | undefined;
};

const LICENSE_FILE = /^(licen[cs]e|copying|notice)/i;

/**
 * Finds the installed folder of each package in bun.lock.
 * @param folders node_modules folders; packages for other platforms are only in the second one.
 * @throws if a package is not installed.
 */
export function listInstalled(packages: Map<string, LockedPackage>, folders: string[]): InstalledPackage[] {
  return [...packages].map(([key, locked]) => {
    const relativePath = (key.match(/(?:@[^/]+\/)?[^/]+/g) ?? []).join("/node_modules/");
    const folder = folders
      .map((parent) => join(parent, relativePath))
      .find((path) => existsSync(join(path, "package.json")));
    if (!folder) throw new Error(`${locked.name} ${locked.version} is not installed; run \`make setup\`.`);
    const { version, license } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8")) as PackageJson;
    if (version !== locked.version)
      throw new Error(`${folder} has version ${version}, but bun.lock has ${locked.version}; run \`make setup\`.`);
    return { key, ...locked, folder, license: typeof license === "string" ? license : undefined };
  });
}

type PackageJson = { version: string; license?: unknown };

/** Creates a section for each license text, with the packages that it applies to. */
export function createLicenseSections(packages: InstalledPackage[]): string[] {
  const packagesByText = new Map<string, string[]>();
  for (const { name, version, folder, license } of packages) {
    const files = readdirSync(folder).filter((file) => LICENSE_FILE.test(file) && /(^[^.]+|\.(md|txt))$/i.test(file));
    const texts = files.sort().map((file) => readFileSync(join(folder, file), "utf8").replaceAll("\r", "").trim());
    const text = texts.join("\n\n") || `License: ${license ?? "not stated"}`;
    packagesByText.set(text, [...(packagesByText.get(text) ?? []), `${name} ${version}`]);
  }
  return [...packagesByText].map(([text, names]) => `${[...new Set(names)].join("\n")}\n\n${text}`);
}
