import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { TEST_PASSWORD } from "../support/client.ts";
import { openSocket } from "../support/socket.ts";
import { createFolder, findFreePort, runParley, spawnParley, waitForStatus } from "./run-parley.ts";

// Starts several processes.
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

const admin = (args: string[], input?: string) =>
  runParley(["admin", ...args], { env, ...(input !== undefined && { input }) });
const post = (path: string, json: object) =>
  fetch(`${url}/api/v1${path}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(json),
  });
const login = (email: string, password: string) => post("/auth/login", { email, password });
const roleOf = async (email: string, password: string) =>
  ((await (await login(email, password)).json()) as { user?: { role: string } }).user?.role;

describe("parley admin create", () => {
  test("reads the first line of standard input as the password, with any line ending", async () => {
    for (const [email, input] of [
      ["plain@example.com", "no end of line"],
      ["unix@example.com", "one end of line\n"],
      ["windows@example.com", "other end of line\r\nand more\n"],
      ["text@example.com", " Wörter mit Blanks \n"],
    ] as const) {
      const result = await admin(["create", "--email", email], input);
      expect(result).toEqual({ code: 0, stdout: `${email} is now an administrator.\n`, stderr: "" });
      expect(await roleOf(email, input.split(/\r?\n/)[0] ?? "")).toBe("admin");
    }
  });

  test("an empty input is a usage error, and creates no user", async () => {
    for (const input of [undefined, "", "\n", "\r\n", "\nsecond line"]) {
      const { code, stdout, stderr } = await admin(["create", "--email", "empty@example.com"], input);
      expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
      expect(stderr).toContain("The password is empty");
    }
    expect((await admin(["create", "--email", "empty@example.com", "--password", ""])).code).toBe(2);
    expect((await admin(["password", "--email", "empty@example.com"], "is there now")).code).toBe(1);
  });

  test("an invalid password is reported with its source", async () => {
    const bad: [string, string][] = [
      ["password", "The password is one of the most common passwords. Choose another one.\n"],
      ["Strict@Example.com", "The password must not be the e-mail address. Choose another one.\n"],
      ["short", "The password must have 8 to 128 characters.\n"],
    ];
    for (const [input, stderr] of bad)
      expect(await admin(["create", "--email", "strict@example.com"], input)).toEqual({ code: 2, stdout: "", stderr });
    expect(await admin(["create", "--email", "strict@example.com", "--password", "password"])).toEqual({
      code: 2,
      stdout: "",
      stderr: "--password is one of the most common passwords. Choose another one.\n",
    });
    expect((await admin(["create", "--email", "strict@example.com"], "x".repeat(100_000))).code).toBe(2);
    expect((await admin(["create", "--email", "no address"], "a good password")).code).toBe(2);
  });
});

describe("parley admin password", () => {
  async function register(email: string) {
    const response = await post("/auth/register", { email, password: TEST_PASSWORD });
    return (await response.json()) as { access_token: string };
  }

  test("sets it, and ends the user's sessions on the running server within 2 seconds", async () => {
    const email = "Anna@example.com";
    const anna = await register(email);
    const ben = await register("ben@example.com");
    const sockets = await Promise.all([anna, ben].map(({ access_token: token }) => openSocket(url, { token })));
    const closed = sockets[0]?.closed.then(({ code }) => ({ code, atMs: performance.now() }));
    const result = await admin(["password", "--email", "anna@EXAMPLE.com"], "set by the operator\n");
    const doneAtMs = performance.now();
    expect(result).toEqual({
      code: 0,
      stdout: "The password of Anna@example.com is set. 1 session was ended.\n",
      stderr: "",
    });
    const end = await closed;
    expect(end?.code).toBe(4506);
    expect((end?.atMs ?? 1e9) - doneAtMs).toBeLessThan(2_000);
    const me = async (token: string) =>
      (await fetch(`${url}/api/v1/me`, { headers: { authorization: `Bearer ${token}` } })).status;
    // An instance caches sessions for a second.
    while ((await me(anna.access_token)) === 200 && performance.now() < doneAtMs + 2_000) await Bun.sleep(50);
    expect([await me(anna.access_token), await me(ben.access_token)]).toEqual([401, 200]);
    expect([(await login(email, TEST_PASSWORD)).status, (await login(email, "set by the operator")).status]).toEqual([
      401, 200,
    ]);
    await sockets[1]?.close();
  });

  test("with empty input generates one, and prints only it on standard output", async () => {
    await register("carl@example.com");
    const seen = new Set<string>();
    for (const input of [undefined, "", "\n"]) {
      const { code, stdout, stderr } = await admin(["password", "--email", "carl@example.com"], input);
      expect(code).toBe(0);
      expect(stdout).toMatch(/^[\w-]{24}\n$/);
      expect(stderr).toContain("The password of carl@example.com is set.");
      expect(stderr).not.toContain(stdout.trim());
      expect((await login("carl@example.com", stdout.trim())).status).toBe(200);
      seen.add(stdout);
    }
    expect(seen.size).toBe(3);
  });

  test("for an unknown user, or with an invalid password, changes nothing", async () => {
    await register("dora@example.com");
    const nobody = await admin(["password", "--email", "nobody@example.com"], "a good password");
    expect({ ...nobody, stderr: "" }).toEqual({ code: 1, stdout: "", stderr: "" });
    expect(nobody.stderr).toContain("No user nobody@example.com exists");
    for (const input of ["short", "password1", "DORA@example.com"])
      expect((await admin(["password", "--email", "dora@example.com"], input)).code).toBe(2);
    expect((await login("dora@example.com", TEST_PASSWORD)).status).toBe(200);
    using empty = createFolder();
    const elsewhere = await runParley(["admin", "password", "--email", "dora@example.com"], {
      env: { DATA_DIR: empty.path },
      input: "a good password",
    });
    expect(elsewhere.code).toBe(1);
    expect(elsewhere.stderr).toContain("No embedded database exists");
  });
});

test("on a terminal, both prompt without echo, and exit on Ctrl-C", async () => {
  const created = await onTerminal(["create", "--email", "typed@example.com"], "typed on a terminal\r");
  expect(created.shown).toContain("Password of the administrator:");
  expect(created.shown).toContain("typed@example.com is now an administrator.");
  expect(created.shown).not.toContain("typed on");
  expect(await roleOf("typed@example.com", "typed on a terminal")).toBe("admin");
  // A user with a password isn't asked for one.
  const again = await onTerminal(["create", "--email", "typed@example.com"], "");
  expect(again.shown).toContain("the password was not changed");
  expect(again.shown).not.toContain("Password of");
  const generated = await onTerminal(["password", "--email", "typed@example.com"], "\r");
  const [, password = ""] = /^([\w-]{24})\r?$/m.exec(generated.shown) ?? [];
  expect(await roleOf("typed@example.com", password)).toBe("admin");
  const ended = await onTerminal(["password", "--email", "typed@example.com"], "half a pass\u0003");
  expect(ended.shown).toContain("nothing was changed");
  expect(ended.shown).not.toContain("half");
  expect(await roleOf("typed@example.com", password)).toBe("admin");
});

/** Runs the command on a terminal (util-linux's script), and types after the prompt. */
async function onTerminal(args: string[], typed: string): Promise<{ shown: string }> {
  const child = spawnParley(["admin", ...args], { env, isOnTerminal: true });
  let shown = "";
  let hasTyped = false;
  for await (const piece of child.stdout as ReadableStream<Uint8Array>) {
    shown += Buffer.from(piece).toString();
    if (hasTyped || !/assword.*:/.test(shown)) continue;
    hasTyped = true;
    if (typeof child.stdin === "object") {
      await child.stdin.write(typed);
      await child.stdin.flush();
    }
  }
  await child.exited;
  return { shown };
}
