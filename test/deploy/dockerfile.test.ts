import { expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

const root = join(import.meta.dir, "../..");
const read = (path: string) => readFileSync(join(root, path), "utf8");
const dockerfile = read("Dockerfile");
/** The instructions without comments, one per line. */
const instructions = dockerfile
  .replaceAll(/^#.*\n/gm, "")
  .replaceAll(/\\\n\s*/g, "")
  .split("\n")
  .filter(Boolean);
const stages = dockerfile.split(/^FROM /m).slice(1);
const finalStage = stages.at(-1) ?? "";

test("the image is built with the Makefile's version of Bun", () => {
  const version = /^BUN_VERSION := (\S+)$/m.exec(read("Makefile"))?.[1];
  expect(stages[0]).toStartWith(`--platform=$BUILDPLATFORM oven/bun:${version}-debian AS build\n`);
});

test(".dockerignore allows exactly what the Dockerfile copies", () => {
  const copiedPaths = instructions
    .filter((line) => line.startsWith("COPY ") && !line.includes("--from="))
    .flatMap((line) => line.split(" ").slice(1, -1));
  const lines = read(".dockerignore")
    .split("\n")
    .filter((line) => line && !line.startsWith("#"));
  expect(lines[0]).toBe("*");
  const allowedPaths = lines.filter((line) => line.startsWith("!")).map((line) => line.slice(1));
  expect(allowedPaths.sort()).toEqual(copiedPaths.sort());
  for (const name of copiedPaths) expect(existsSync(join(root, name))).toBe(true);
  expect(lines).toContain("**/.env*");
});

test("the final stage runs no commands, so building for another architecture needs no emulation", () => {
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
