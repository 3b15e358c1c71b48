import { expect, test } from "bun:test";
import { readdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { loadJwtSecret } from "../../src/commands/jwt-secret.ts";
import { createFolder } from "./run-parley.ts";

test("a secret is created once, and only the owner of its file can read it", () => {
  using folder = createFolder();
  const DATA_DIR = join(folder.path, "data");
  const secret = loadJwtSecret({ DATA_DIR });
  expect(Buffer.from(secret, "base64url").length).toBe(32);
  expect(loadJwtSecret({ DATA_DIR })).toBe(secret);
  expect(readdirSync(DATA_DIR)).toEqual(["jwt-secret"]);
  expect(statSync(join(DATA_DIR, "jwt-secret")).mode & 0o777).toBe(0o600);
});

test("a configured secret takes precedence, and no file is written", () => {
  using folder = createFolder();
  const JWT_SECRET = "0123456789abcdef0123456789abcdef";
  expect(loadJwtSecret({ DATA_DIR: folder.path, JWT_SECRET })).toBe(JWT_SECRET);
  expect(readdirSync(folder.path)).toEqual([]);
});

test.each(["", "short"])("a damaged secret file is rejected: %p", (text) => {
  using folder = createFolder();
  writeFileSync(join(folder.path, "jwt-secret"), text);
  expect(() => loadJwtSecret({ DATA_DIR: folder.path })).toThrow("is damaged; delete it");
});

test("an unwritable DATA_DIR causes an error that suggests how to fix it", () => {
  using folder = createFolder();
  writeFileSync(join(folder.path, "file"), "");
  const DATA_DIR = join(folder.path, "file");
  expect(() => loadJwtSecret({ DATA_DIR })).toThrow("make DATA_DIR writable, or set JWT_SECRET.");
});
