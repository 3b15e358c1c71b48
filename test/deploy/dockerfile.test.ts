import { expect, test } from "bun:test";
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { BUILD_SOURCES } from "../../scripts/release/sources.ts";

const repositoryDir = join(import.meta.dir, "../..");
const readRepositoryFile = (path: string) => readFileSync(join(repositoryDir, path), "utf8");
const dockerfile = readRepositoryFile("Dockerfile");
/** The instructions without comments, one per line. */
const instructions = dockerfile
  .replaceAll(/^#.*\n/gm, "")
  .replaceAll(/\\\n\s*/g, "")
  .split("\n")
  .filter(Boolean);
const stages = dockerfile.split(/^FROM /m).slice(1);
const finalStage = stages.at(-1) ?? "";

test("the image is built with the Makefile's version of Bun", () => {
  const version = /^BUN_VERSION := (\S+)$/m.exec(readRepositoryFile("Makefile"))?.[1];
  expect(stages[0]).toStartWith(`--platform=$BUILDPLATFORM oven/bun:${version}-debian AS build\n`);
});

/** The files and folders that the image is built from. */
const copiedPaths = instructions
  .filter((line) => line.startsWith("COPY ") && !line.includes("--from="))
  .flatMap((line) => line.split(" ").slice(1, -1));

test("the image is built from the same files as a release", () => {
  const packagePaths = ["bun.lock", "patches"];
  expect(copiedPaths.sort()).toEqual([...BUILD_SOURCES, ...packagePaths].sort());
});

test("a build needs only the source files that a release lists", async () => {
  const folder = mkdtempSync(join(tmpdir(), "parley-sources-"));
  try {
    for (const path of BUILD_SOURCES) cpSync(join(repositoryDir, path), join(folder, path), { recursive: true });
    // These folders aren't source files. They are created before the build.
    for (const path of ["node_modules", "dist"]) symlinkSync(join(repositoryDir, path), join(folder, path));
    const build = Bun.spawn([process.execPath, "build", "--target=bun", "--outdir=bundle", "src/main.ts"], {
      cwd: folder,
      stdio: ["ignore", "ignore", "pipe"],
    });
    expect({ stderr: await new Response(build.stderr).text(), code: await build.exited }).toEqual({
      stderr: "",
      code: 0,
    });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test(".dockerignore allows exactly what the Dockerfile copies", () => {
  const lines = readRepositoryFile(".dockerignore")
    .split("\n")
    .filter((line) => line && !line.startsWith("#"));
  expect(lines[0]).toBe("*");
  const allowedPaths = lines.filter((line) => line.startsWith("!")).map((line) => line.slice(1));
  expect(allowedPaths.sort()).toEqual(copiedPaths.sort());
  for (const name of copiedPaths) expect(existsSync(join(repositoryDir, name))).toBe(true);
  expect(lines).toContain("**/.env*");
});

test("the final stage runs no commands, so building for a different architecture needs no emulation", () => {
  expect(finalStage).toStartWith("debian:bookworm-slim\n");
  expect(finalStage).not.toMatch(/^RUN /m);
  for (const stage of stages.slice(0, -1)) expect(stage).toStartWith("--platform=$BUILDPLATFORM ");
});

test("the image runs as a numeric user, and has a health check and labels", () => {
  expect(finalStage).toMatch(/^USER 10001:10001$/m);
  expect(finalStage).toContain('CMD ["parley", "healthcheck"]');
  expect(finalStage).toContain("STOPSIGNAL SIGTERM\n");
  expect(finalStage).toContain("VOLUME /data\n");
  for (const label of ["title", "description", "licenses", "version", "revision", "base.name"])
    expect(finalStage).toContain(`org.opencontainers.image.${label}=`);
  // A secret in a build argument or variable would stay in the image's history.
  expect(instructions.filter((line) => /^(ARG|ENV) .*(SECRET|TOKEN|PASSWORD|KEY)/.test(line))).toEqual([]);
});
