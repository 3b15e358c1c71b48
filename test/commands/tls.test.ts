import { afterAll, describe, expect, test } from "bun:test";
import { findTlsProblems } from "../../src/config/tls.ts";
import { createCertificates } from "../support/certificates.ts";
import { runParley } from "./run-parley.ts";

const certificates = createCertificates();
afterAll(() => certificates.remove());

const authority = certificates.create("authority.test");
const ours = certificates.create("ours.test", { issuer: authority });
const other = certificates.create("other.test");
const encrypted = certificates.encryptKey(ours);

describe("a certificate and its key", () => {
  const { cert, key } = ours;
  const keyUnreadable = "TLS_KEY_FILE: the file contains no readable private key; PEM is expected.";
  const certUnreadable = "TLS_CERT_FILE: the file contains no readable certificate; PEM is expected.";
  const scenarios = [
    { name: "that match are valid", cert, key, problem: undefined },
    { name: "followed by the issuer's certificate are valid", cert: cert + authority.cert, key, problem: undefined },
    { name: "surrounded by text are valid", cert: `Bag\n${cert}\nend`, key: `\n${key}`, problem: undefined },
    {
      name: "with the issuer's certificate first",
      cert: authority.cert + cert,
      key,
      problem: "TLS_CERT_FILE: the server's own certificate must come first, followed by those of its issuers.",
    },
    {
      name: "of different pairs",
      cert,
      key: other.key,
      problem:
        "TLS_CERT_FILE and TLS_KEY_FILE: the key does not belong to the certificate; set both to a matching pair.",
    },
    {
      name: "with an encrypted key",
      cert,
      key: encrypted,
      problem: "TLS_KEY_FILE: the key is encrypted; use one without a passphrase (openssl pkey -in KEY -out PLAIN).",
    },
    { name: "without a key", cert, key: "", problem: keyUnreadable },
    { name: "with the files swapped", cert: key, key: cert, problem: certUnreadable },
    { name: "with a truncated key", cert, key: key.slice(0, 80), problem: keyUnreadable },
    { name: "with a damaged certificate", cert: cert.replace("MII", "AAA"), key, problem: certUnreadable },
    {
      name: "with a damaged certificate after a valid one",
      cert: cert + authority.cert.replace("MII", "AAA"),
      key,
      problem: certUnreadable,
    },
  ];
  test.each(scenarios)("$name", ({ cert, key, problem }) => {
    expect(findTlsProblems({ cert, key })[0]).toBe(problem as string);
  });
});

describe("on the command line", () => {
  const env = (cert: string, key: string) => ({ TLS_CERT_FILE: cert, TLS_KEY_FILE: key });

  test.each(["config check", "serve", "healthcheck"])(
    "a key that doesn't match its certificate is a configuration error (%s)",
    async (command) => {
      const { code, stdout, stderr } = await runParley(command.split(" "), { env: env(ours.certFile, other.keyFile) });
      expect({ code, stdout, stderr }).toEqual({
        code: 2,
        stdout: "",
        stderr:
          "TLS_CERT_FILE and TLS_KEY_FILE: the key does not belong to the certificate; set both to a matching pair.\n",
      });
    },
  );

  test("an encrypted key is too, and its text is not printed", async () => {
    const { code, stderr } = await runParley(["config", "check"], {
      env: env(ours.certFile, `${ours.keyFile}.encrypted`),
    });
    expect({ code, stderr }).toEqual({
      code: 2,
      stderr: expect.stringMatching(/^TLS_KEY_FILE: the key is encrypted;/),
    });
    expect(stderr.trim().split("\n")).toHaveLength(1);
  });

  test("a valid pair is accepted", async () => {
    const { code } = await runParley(["config", "check"], { env: env(ours.certFile, ours.keyFile) });
    expect(code).toBe(0);
  });
});
