import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { formatResponse, startReceiver } from "./receiver.ts";

// A compiled program is tested too, because the address that Bun connects to can depend on the build.
const folder = mkdtempSync(join(tmpdir(), "parley-probe-"));
const executable = join(folder, "probe");
const receiver = startReceiver((socket) => void socket.write(formatResponse("200 OK", "thanks")));

beforeAll(() => {
  const flags = ["--minify-whitespace", "--minify-syntax", "--sourcemap", "--bytecode", "--format=esm"];
  const program = join(import.meta.dir, "fixtures/probe.ts");
  const build = Bun.spawnSync([process.execPath, "build", "--compile", ...flags, `--outfile=${executable}`, program]);
  expect(build.exitCode).toBe(0);
});
afterAll(() => {
  receiver.stop();
  rmSync(folder, { recursive: true });
});

async function runProbe(addresses: string, host: string, allowedTargets: "private" | "public"): Promise<string> {
  const url = `http://${host}:${receiver.port}/`;
  const child = Bun.spawn([executable, addresses, url, allowedTargets], { env: { HTTP_PROXY: `http://127.0.0.1:1` } });
  return (await new Response(child.stdout).text()).trim();
}

test("a compiled program connects only to the address that was checked", async () => {
  expect(await runProbe("127.0.0.1", "hooks.test", "private")).toBe("200 thanks");
  expect(receiver.connectionCount).toBe(1);
  expect(await runProbe("192.0.2.1", "hooks.test", "private")).toStartWith("OutgoingError: ");
  for (const addresses of ["127.0.0.1", "8.8.8.8,127.0.0.1", "::ffff:127.0.0.1", "192.0.2.1"])
    expect(await runProbe(addresses, "hooks.test", "public")).toBe(
      "RejectedAddressError: hooks.test does not resolve to a public address.",
    );
  for (const host of ["127.0.0.1", "2130706433", "localhost", "[::ffff:7f00:1]"])
    expect(await runProbe("8.8.8.8", host, "public")).toContain("is not a public address");
  expect(receiver.connectionCount).toBe(1);
});
