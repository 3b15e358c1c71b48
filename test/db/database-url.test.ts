import { describe, expect, test } from "bun:test";
import { parseDatabaseUrl } from "../../src/config/database-url.ts";
import { findDatabaseUrlProblems } from "../../src/config/database-url-check.ts";

const findProblems = (url: string, environment: Record<string, string> = {}) =>
  findDatabaseUrlProblems(url, {
    environment,
    readFile: (path) => {
      if (path !== "/ca.pem") throw new Error("No such file.");
      return "";
    },
  });
const parseAddress = (url: string) => {
  const parsedUrl = parseDatabaseUrl(url);
  if ("problems" in parsedUrl) throw new Error(parsedUrl.problems.join("\n"));
  return parsedUrl.address;
};

describe("a libpq URL", () => {
  test.each([
    ["postgres://u:p@db.example:6000/x", { host: "db.example", port: 6000, user: "u", password: "p", database: "x" }],
    ["postgresql://db", { host: "db", socketDirectory: undefined, port: undefined, database: undefined }],
    ["postgres://u:p%2F%40@db/a%20b", { password: "p/@", database: "a b" }],
    ["postgres://u:p@ss#1@db/x", { user: "u", password: "p@ss#1", host: "db" }],
    ["postgres:///x", { host: undefined, socketDirectory: undefined, database: "x" }],
    ["postgres://u:p@/x?host=/run/pg", { host: undefined, socketDirectory: "/run/pg", user: "u", database: "x" }],
    ["postgres://%2Frun%2Fpg:6000/x", { host: undefined, socketDirectory: "/run/pg", port: 6000 }],
    ["postgres://one/x?host=two&port=7000&user=v&password=q&dbname=y", { host: "two", port: 7000, user: "v" }],
    ["postgres://localhost/x?host=/run/pg", { host: undefined, socketDirectory: "/run/pg" }],
    ["postgres://[::1]:6000/x", { host: "::1", port: 6000 }],
    ["postgres://db/x?sslmode=verify-ca&sslrootcert=/ca.pem", { sslmode: "verify-ca", sslrootcert: "/ca.pem" }],
    ["postgres://db/x?ssl=true", { sslmode: "require" }],
    ["postgres://db/x?sslrootcert=system", { sslmode: "verify-full" }],
    ["postgres://db/x?prepare=false&connect_timeout=1", { canPrepare: false, connectTimeoutS: 2 }],
    ["postgres://db/x?options=-c%20work_mem%3D8MB", { session: { options: "-c work_mem=8MB" } }],
  ])("is accepted: %s", (url, address) => {
    expect(findProblems(url)).toEqual([]);
    expect(parseAddress(url)).toMatchObject(address);
  });
});

describe("a DATABASE_URL", () => {
  test.each([
    [
      "an unknown parameter",
      "/x?schema=mine",
      "DATABASE_URL: the parameter `schema` is not supported; use `search_path`",
    ],
    ["a PgBouncer parameter", "/x?pgbouncer=true", 'DATABASE_URL: unknown parameter "pgbouncer"'],
    ["a parameter named like an Object property", "/x?constructor=1", 'DATABASE_URL: unknown parameter "constructor"'],
    [
      "an invalid TLS mode",
      "/x?sslmode=on",
      "DATABASE_URL: sslmode=on is not supported; use one of disable, allow, prefer,",
    ],
    ["an empty TLS mode", "/x?sslmode=", "DATABASE_URL: sslmode= is not supported"],
    ["channel_binding=require", "/x?channel_binding=require", "DATABASE_URL: channel_binding=require is not supported"],
    [
      "target_session_attrs=standby",
      "/x?target_session_attrs=standby",
      "DATABASE_URL: target_session_attrs=standby is not supported",
    ],
    [
      "the path of a missing file",
      "/x?sslmode=verify-ca&sslrootcert=/missing.pem",
      "DATABASE_URL: the sslrootcert file can't be read",
    ],
    [
      "an incomplete client certificate",
      "/x?sslmode=require&sslcert=/ca.pem",
      "DATABASE_URL: set both sslcert and sslkey, or neither.",
    ],
    ["an invalid port", ":99999/x", "DATABASE_URL: 99999 is not a port; use a number from 1 to 65535."],
    ["two hosts", ",db2/x", "DATABASE_URL: it has several hosts"],
    ["two hosts in the query", "/x?host=a,b", "DATABASE_URL: it has several hosts"],
    ["an invalid escape", "/%zz", "DATABASE_URL: the value is not a URL"],
  ])("is rejected without revealing the password if it contains %s", (_name, urlSuffix, message) => {
    const problems = findProblems(`postgres://u:hunter2@db${urlSuffix}`);
    expect(problems).toHaveLength(1);
    expect(problems[0]).toStartWith(message);
    expect(problems.join()).not.toContain("hunter2");
  });

  test.each(["postgres://u:12/hunter2@db/x", "postgres://u:12?hunter2@db/x", "postgres://u:hunter2?a=b@db/x"])(
    "is rejected without revealing the password if the password isn't encoded: %s",
    (url) => {
      const [problem] = findProblems(url);
      expect(problem).toStartWith("DATABASE_URL: the value is not a URL");
      expect(problem).not.toContain("hunter2");
    },
  );

  test("is rejected if libpq programs would get its host or port from PGHOST or PGPORT", () => {
    expect(findProblems("postgres:///x", { PGHOST: "elsewhere" })).toHaveLength(1);
    expect(findProblems("postgres:///x?host=/run/pg", { PGHOST: "elsewhere" })).toEqual([]);
    expect(findProblems("postgres:///x?host=/run/pg", { PGPORT: "6000" })).toHaveLength(1);
    expect(findProblems("postgres://db/x", { PGHOST: "elsewhere" })).toEqual([]);
  });
});
