// Compiles Parley into one executable: `bun scripts/build.ts [file] [target] [runtime]`, target like bun-linux-arm64.
// Without a path to the target's runtime, Bun downloads it. The commit comes from PARLEY_COMMIT, otherwise from git. The
// build time is now, or SOURCE_DATE_EPOCH (seconds since 1970) for a reproducible build.
import { dirname, resolve } from "node:path";

const root = dirname(import.meta.dir);
const outfile = resolve(process.argv[2] ?? "dist/parley");
const target = process.argv[3];
const runtime = process.argv[4];

const defines = {
  PARLEY_COMMIT: process.env.PARLEY_COMMIT || findCommit(),
  PARLEY_BUILT_AT: findTime().toISOString(),
};

const command = [
  process.execPath,
  "build",
  "--compile",
  ...(target ? [`--target=${target}`] : []),
  ...(runtime ? [`--compile-executable-path=${runtime}`] : []),
  // Identifiers are not minified: the framework parses the source text of handlers to see what they use.
  "--minify-whitespace",
  "--minify-syntax",
  "--sourcemap",
  "--bytecode",
  "--format=esm",
  // Files in the working directory must not change the executable's behavior.
  "--no-compile-autoload-dotenv",
  "--no-compile-autoload-bunfig",
  ...Object.entries(defines).flatMap(([name, value]) => ["--define", `${name}=${JSON.stringify(value)}`]),
  `--outfile=${outfile}`,
  "src/main.ts",
];
const { exitCode } = Bun.spawnSync(command, { cwd: root, stdio: ["ignore", "inherit", "inherit"] });
process.exit(exitCode);

function findCommit(): string {
  const git = Bun.spawnSync(["git", "rev-parse", "--short=12", "HEAD"], { cwd: root, stderr: "ignore" });
  return git.exitCode === 0 ? git.stdout.toString().trim() : "unknown";
}

function findTime(): Date {
  const epochS = process.env.SOURCE_DATE_EPOCH;
  if (!epochS) return new Date();
  if (!/^\d{1,12}$/.test(epochS))
    throw new Error(`SOURCE_DATE_EPOCH: ${epochS} is not a number of seconds since 1970.`);
  return new Date(Number(epochS) * 1_000);
}
