import { expect, test } from "bun:test";
import { explainLoopback } from "../../src/lib/container.ts";

test.each(["localhost", "db.localhost", "127.0.0.1", "127.1.2.3", "::1", "[::1]"])(
  "the hint that %s is the container itself is given only in a container",
  (host) => {
    expect(explainLoopback(host, true)).toMatch(/^ Parley runs in a container, where .+; use host\.docker\.internal/);
    expect(explainLoopback(host, false)).toBe("");
  },
);

test.each(["db", "db.example.com", "10.0.0.1", "host.docker.internal", "localhost.example.com", ""])(
  "no hint is given for the host %j",
  (host) => expect(explainLoopback(host, true)).toBe(""),
);
