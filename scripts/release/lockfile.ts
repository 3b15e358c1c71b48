/** A package in bun.lock. */
export type LockedPackage = {
  name: string;
  version: string;
  /** Hash of the archive in the registry: `sha512-…`. */
  integrity: string;
  /** Keys of the packages that it depends on. */
  dependencies: string[];
};

type LockEntry = [spec: string, registry: string, details: Details, integrity: string];
type Details = {
  dependencies?: Record<string, string>;
  optionalDependencies?: Record<string, string>;
  peerDependencies?: Record<string, string>;
  /** Optional peer dependencies. They aren't part of an executable, even if another package installs one. */
  optionalPeers?: string[];
};
type Lockfile = {
  workspaces: Record<string, { dependencies?: Record<string, string> }>;
  packages: Record<string, LockEntry>;
};

/**
 * Lists the packages that an executable may contain: the dependencies in package.json and their dependencies, without
 * development dependencies. A package's key is its path, such as `openai/zod` if `openai` has its own version of zod.
 */
export function listRuntimePackages(lock: string): Map<string, LockedPackage> {
  const { workspaces, packages } = Bun.JSONC.parse(lock) as Lockfile;
  const packagesByKey = new Map<string, LockedPackage>();
  const pendingKeys = Object.keys(workspaces[""]?.dependencies ?? {});
  for (let key = pendingKeys.pop(); key !== undefined; key = pendingKeys.pop()) {
    const entry = packages[key];
    if (!entry) throw new Error(`bun.lock has no entry for ${key}; run \`bun install\`.`);
    if (packagesByKey.has(key)) continue;
    const [spec, , details, integrity] = entry;
    const at = spec.lastIndexOf("@");
    const allDependencies = { ...details.dependencies, ...details.optionalDependencies, ...details.peerDependencies };
    const names = Object.keys(allDependencies).filter((name) => !details.optionalPeers?.includes(name));
    const dependencies = names.flatMap((name) => findKey(packages, key, name) ?? []);
    packagesByKey.set(key, { name: spec.slice(0, at), version: spec.slice(at + 1), integrity, dependencies });
    pendingKeys.push(...dependencies);
  }
  return new Map([...packagesByKey].sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** Resolves a dependency like Node: in the package's own node_modules, otherwise the nearest one above it. */
function findKey(packages: Lockfile["packages"], from: string, name: string): string | undefined {
  const path = from.match(/(?:@[^/]+\/)?[^/]+/g) ?? [];
  for (let depth = path.length; depth >= 0; depth--) {
    const key = [...path.slice(0, depth), name].join("/");
    if (key in packages) return key;
  }
  return undefined;
}
