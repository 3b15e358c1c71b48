import { join } from "node:path";
import type { ExecutableType } from "./executable-type.ts";

/** A platform for which a release has an executable. */
export type ReleaseTarget = {
  /** Suffix of the executable's file name: `parley-0.1.0-linux-x64`. */
  name: string;
  extension: "" | ".exe";
  /** Its name for `bun build --target`. */
  bunTarget: string;
  /** The package with Bun's runtime for this platform. */
  runtimePackage: string;
  /** Its name for scripts/pack-postgres.ts. */
  postgresTarget: string;
  type: ExecutableType;
};

const createElfType = (machine: ExecutableType["machine"], loader: string): ExecutableType => ({
  format: "ELF",
  machine,
  loader,
});
const createMachOType = (machine: ExecutableType["machine"], isSigned: boolean): ExecutableType => ({
  format: "Mach-O",
  machine,
  isSigned,
});

/** All targets. Linux without glibc and Windows have no embedded PostgreSQL, so they need `DATABASE_URL`. */
export const releaseTargets: ReleaseTarget[] = [
  createTarget("linux-x64", "linux-x64", createElfType("x86_64", "/lib64/ld-linux-x86-64.so.2")),
  createTarget("linux-arm64", "linux-aarch64", createElfType("arm64", "/lib/ld-linux-aarch64.so.1")),
  createTarget("linux-x64-musl", "linux-x64-musl", createElfType("x86_64", "/lib/ld-musl-x86_64.so.1")),
  createTarget("linux-arm64-musl", "linux-aarch64-musl", createElfType("arm64", "/lib/ld-musl-aarch64.so.1")),
  createTarget("darwin-arm64", "darwin-aarch64", createMachOType("arm64", true)),
  createTarget("darwin-x64", "darwin-x64", createMachOType("x86_64", false)),
  { ...createTarget("windows-x64", "windows-x64", { format: "PE32+", machine: "x86_64" }), extension: ".exe" },
];

function createTarget(name: string, runtime: string, type: ExecutableType): ReleaseTarget {
  return {
    name,
    extension: "",
    bunTarget: `bun-${name}`,
    runtimePackage: `@oven/bun-${runtime}`,
    postgresTarget: name,
    type,
  };
}

export const getFileName = ({ name, extension }: ReleaseTarget, version: string): string =>
  `parley-${version}-${name}${extension}`;

export const getRuntimePath = ({ runtimePackage, extension }: ReleaseTarget, packages: string): string =>
  join(packages, runtimePackage, "bin", `bun${extension}`);
