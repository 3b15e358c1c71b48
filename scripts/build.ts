// Compiles Parley into one executable: `bun scripts/build.ts [file] [target] [runtime]`, with a target such as
// bun-linux-arm64. If no path to the target's runtime is passed, Bun downloads it. The commit is PARLEY_COMMIT if set,
// otherwise git's HEAD. The build time is the current time, or SOURCE_DATE_EPOCH (seconds since 1970) for reproducible
// builds.
import { dirname, resolve } from "node:path";

const root = dirname(import.meta.dir);
const outfile = resolve(process.argv[2] ?? "dist/parley");
const target = process.argv[3];
const runtime = process.argv[4];

const defines = {
  PARLEY_COMMIT: process.env.PARLEY_COMMIT || findCommit(),
  PARLEY_BUILT_AT: findBuildTime().toISOString(),
};

const command = [
  process.execPath,
  "build",
  "--compile",
  ...(target ? [`--target=${target}`] : []),
  ...(runtime ? [`--compile-executable-path=${runtime}`] : []),
  // Identifiers must not be minified, because Elysia parses the source of handlers to find out what they use.
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

function findBuildTime(): Date {
  const epochS = process.env.SOURCE_DATE_EPOCH;
  if (!epochS) return new Date();
  if (!/^\d{1,12}$/.test(epochS))
    throw new Error(`SOURCE_DATE_EPOCH: ${epochS} is not a number of seconds since 1970.`);
  return new Date(Number(epochS) * 1_000);
}
