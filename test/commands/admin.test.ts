import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { TEST_PASSWORD } from "../support/client.ts";
import { openSocket } from "../support/socket.ts";
import { createFolder, findFreePort, runParley, spawnParley, waitForStatus } from "./run-parley.ts";

// Each test starts several processes.
setDefaultTimeout(30_000);

const folder = createFolder();
const port = findFreePort();
const env = { DATA_DIR: folder.path, PORT: String(port), HOST: "127.0.0.1", LOG_LEVEL: "silent" };
const url = `http://127.0.0.1:${port}`;
let server: ReturnType<typeof spawnParley>;
beforeAll(async () => {
  server = spawnParley(["serve"], { env });
  await waitForStatus(`${url}/readyz`, 200);
});
afterAll(async () => {
  server.kill();
  await server.exited;
  folder[Symbol.dispose]();
});

const runAdmin = (args: string[], input?: string) =>
  runParley(["admin", ...args], { env, ...(input !== undefined && { input }) });
const postJson = (path: string, json: object) =>
  fetch(`${url}/api/v1${path}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(json),
  });
const logIn = (email: string, password: string) => postJson("/auth/login", { email, password });
const fetchRole = async (email: string, password: string) =>
  ((await (await logIn(email, password)).json()) as { user?: { role: string } }).user?.role;

describe("parley admin create", () => {
  test("reads the password from the first line of standard input", async () => {
    for (const [email, input] of [
      ["plain@example.com", "no end of line"],
      ["unix@example.com", "one end of line\n"],
      ["windows@example.com", "other end of line\r\nand more\n"],
      ["text@example.com", " Wörter mit Blanks \n"],
    ] as const) {
      const result = await runAdmin(["create", "--email", email], input);
      expect(result).toEqual({ code: 0, stdout: `${email} is now an administrator.\n`, stderr: "" });
      expect(await fetchRole(email, input.split(/\r?\n/)[0] ?? "")).toBe("admin");
    }
  });

  test("fails without creating a user if the input is empty", async () => {
    for (const input of [undefined, "", "\n", "\r\n", "\nsecond line"]) {
      const { code, stdout, stderr } = await runAdmin(["create", "--email", "empty@example.com"], input);
      expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
      expect(stderr).toContain("The password is empty");
    }
    expect((await runAdmin(["create", "--email", "empty@example.com", "--password", ""])).code).toBe(2);
    expect((await runAdmin(["password", "--email", "empty@example.com"], "a good password")).code).toBe(1);
  });

  test("reports an invalid password and its source", async () => {
    const invalidPasswords: [string, string][] = [
      ["password", "The password is one of the most common passwords. Choose another one.\n"],
      ["Strict@Example.com", "The password must not be the email address. Choose another one.\n"],
      ["short", "The password must have 8 to 128 characters.\n"],
    ];
    for (const [input, stderr] of invalidPasswords)
      expect(await runAdmin(["create", "--email", "strict@example.com"], input)).toEqual({
        code: 2,
        stdout: "",
        stderr,
      });
    expect(await runAdmin(["create", "--email", "strict@example.com", "--password", "password"])).toEqual({
      code: 2,
      stdout: "",
      stderr: "--password is one of the most common passwords. Choose another one.\n",
    });
    expect((await runAdmin(["create", "--email", "strict@example.com"], "x".repeat(100_000))).code).toBe(2);
    expect((await runAdmin(["create", "--email", "no address"], "a good password")).code).toBe(2);
  });
});

describe("parley admin password", () => {
  async function register(email: string) {
    const response = await postJson("/auth/register", { email, password: TEST_PASSWORD });
    return (await response.json()) as { access_token: string };
  }

  test("sets the password, and revokes the user's sessions on the running server within 2 seconds", async () => {
    const email = "Anna@example.com";
    const anna = await register(email);
    const ben = await register("ben@example.com");
    const sockets = await Promise.all([anna, ben].map(({ access_token: token }) => openSocket(url, { token })));
    const closed = sockets[0]?.closed.then(({ code }) => ({ code, atMs: performance.now() }));
    const result = await runAdmin(["password", "--email", "anna@EXAMPLE.com"], "set by the operator\n");
    const passwordSetAtMs = performance.now();
    expect(result).toEqual({
      code: 0,
      stdout: "The password for Anna@example.com has been set. 1 session was ended.\n",
      stderr: "",
    });
    const closeEvent = await closed;
    expect(closeEvent?.code).toBe(4506);
    expect((closeEvent?.atMs ?? 1e9) - passwordSetAtMs).toBeLessThan(2_000);
    const fetchStatus = async (token: string) =>
      (await fetch(`${url}/api/v1/me`, { headers: { authorization: `Bearer ${token}` } })).status;
    // An instance caches sessions for a second.
    while ((await fetchStatus(anna.access_token)) === 200 && performance.now() < passwordSetAtMs + 2_000)
      await Bun.sleep(50);
    expect([await fetchStatus(anna.access_token), await fetchStatus(ben.access_token)]).toEqual([401, 200]);
    expect([(await logIn(email, TEST_PASSWORD)).status, (await logIn(email, "set by the operator")).status]).toEqual([
      401, 200,
    ]);
    await sockets[1]?.close();
  });

  test("generates a password if the input is empty, and prints nothing else to standard output", async () => {
    await register("carl@example.com");
    const passwords = new Set<string>();
    for (const input of [undefined, "", "\n"]) {
      const { code, stdout, stderr } = await runAdmin(["password", "--email", "carl@example.com"], input);
      expect(code).toBe(0);
      expect(stdout).toMatch(/^[\w-]{24}\n$/);
      expect(stderr).toContain("The password for carl@example.com has been set.");
      expect(stderr).not.toContain(stdout.trim());
      expect((await logIn("carl@example.com", stdout.trim())).status).toBe(200);
      passwords.add(stdout);
    }
    expect(passwords.size).toBe(3);
  });

  test("changes nothing if the user is unknown, the password is invalid, or there is no database", async () => {
    await register("dora@example.com");
    const unknownUser = await runAdmin(["password", "--email", "nobody@example.com"], "a good password");
    expect({ ...unknownUser, stderr: "" }).toEqual({ code: 1, stdout: "", stderr: "" });
    expect(unknownUser.stderr).toContain("No user nobody@example.com exists");
    for (const input of ["short", "password1", "DORA@example.com"])
      expect((await runAdmin(["password", "--email", "dora@example.com"], input)).code).toBe(2);
    expect((await logIn("dora@example.com", TEST_PASSWORD)).status).toBe(200);
    using emptyFolder = createFolder();
    const withoutDatabase = await runParley(["admin", "password", "--email", "dora@example.com"], {
      env: { DATA_DIR: emptyFolder.path },
      input: "a good password",
    });
    expect(withoutDatabase.code).toBe(1);
    expect(withoutDatabase.stderr).toContain("No embedded database exists");
  });
});

test("on a terminal, admin commands prompt without echoing the input, and exit on Ctrl-C", async () => {
  const created = await runOnTerminal(["create", "--email", "typed@example.com"], "typed on a terminal\r");
  expect(created.output).toContain("Administrator password:");
  expect(created.output).toContain("typed@example.com is now an administrator.");
  expect(created.output).not.toContain("typed on");
  expect(await fetchRole("typed@example.com", "typed on a terminal")).toBe("admin");
  // There is no prompt if the user already has a password.
  const repeated = await runOnTerminal(["create", "--email", "typed@example.com"], "");
  expect(repeated.output).toContain("the password was not changed");
  expect(repeated.output).not.toContain("Administrator password");
  const generated = await runOnTerminal(["password", "--email", "typed@example.com"], "\r");
  const [, password = ""] = /^([\w-]{24})\r?$/m.exec(generated.output) ?? [];
  expect(await fetchRole("typed@example.com", password)).toBe("admin");
  const interrupted = await runOnTerminal(["password", "--email", "typed@example.com"], "half a pass\u0003");
  expect(interrupted.output).toContain("nothing was changed");
  expect(interrupted.output).not.toContain("half");
  expect(await fetchRole("typed@example.com", password)).toBe("admin");
});

/** Runs an admin command on a terminal, and types the input when the command prompts for a password. */
async function runOnTerminal(args: string[], input: string): Promise<{ output: string }> {
  const child = spawnParley(["admin", ...args], { env, isOnTerminal: true });
  let output = "";
  let hasTyped = false;
  for await (const chunk of child.stdout as ReadableStream<Uint8Array>) {
    output += Buffer.from(chunk).toString();
    if (hasTyped || !/assword.*:/.test(output)) continue;
    hasTyped = true;
    if (typeof child.stdin === "object") {
      await child.stdin.write(input);
      await child.stdin.flush();
    }
  }
  await child.exited;
  return { output };
}
