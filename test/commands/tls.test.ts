import { afterAll, describe, expect, test } from "bun:test";
import { findTlsProblems } from "../../src/config/tls.ts";
import { createCertificates } from "../support/certificates.ts";
import { runParley } from "./run-parley.ts";

const certificates = createCertificates();
afterAll(() => certificates.remove());

const authority = certificates.create("authority.test");
const certificate = certificates.create("ours.test", { issuer: authority });
const otherCertificate = certificates.create("other.test");
const encryptedKey = certificates.encryptKey(certificate);

describe("a certificate and its key", () => {
  const { cert, key } = certificate;
  const keyError = "TLS_KEY_FILE: the file contains no readable private key; PEM is expected.";
  const certError = "TLS_CERT_FILE: the file contains no readable certificate; PEM is expected.";
  const scenarios = [
    { name: "that match are valid", cert, key, problem: undefined },
    { name: "followed by the issuer's certificate are valid", cert: cert + authority.cert, key, problem: undefined },
    { name: "surrounded by text are valid", cert: `Bag\n${cert}\nend`, key: `\n${key}`, problem: undefined },
    {
      name: "with the issuer's certificate first are rejected",
      cert: authority.cert + cert,
      key,
      problem: "TLS_CERT_FILE: the server's own certificate must come first, followed by those of its issuers.",
    },
    {
      name: "that don't match are rejected",
      cert,
      key: otherCertificate.key,
      problem:
        "TLS_CERT_FILE and TLS_KEY_FILE: the key does not belong to the certificate; set both to a matching pair.",
    },
    {
      name: "with an encrypted key are rejected",
      cert,
      key: encryptedKey,
      problem: "TLS_KEY_FILE: the key is encrypted; use one without a passphrase (openssl pkey -in KEY -out PLAIN).",
    },
    { name: "with an empty key file are rejected", cert, key: "", problem: keyError },
    { name: "with the files swapped are rejected", cert: key, key: cert, problem: certError },
    { name: "with a truncated key are rejected", cert, key: key.slice(0, 80), problem: keyError },
    { name: "with a damaged certificate are rejected", cert: cert.replace("MII", "AAA"), key, problem: certError },
    {
      name: "with a damaged certificate after a valid one are rejected",
      cert: cert + authority.cert.replace("MII", "AAA"),
      key,
      problem: certError,
    },
  ];
  test.each(scenarios)("$name", ({ cert, key, problem }) => {
    expect(findTlsProblems({ cert, key })[0]).toBe(problem as string);
  });
});

describe("commands with TLS settings", () => {
  const createEnv = (cert: string, key: string) => ({ TLS_CERT_FILE: cert, TLS_KEY_FILE: key });

  test.each(["config check", "serve", "healthcheck"])(
    "report a key that doesn't match its certificate as a configuration error (%s)",
    async (command) => {
      const { code, stdout, stderr } = await runParley(command.split(" "), {
        env: createEnv(certificate.certFile, otherCertificate.keyFile),
      });
      expect({ code, stdout, stderr }).toEqual({
        code: 2,
        stdout: "",
        stderr:
          "TLS_CERT_FILE and TLS_KEY_FILE: the key does not belong to the certificate; set both to a matching pair.\n",
      });
    },
  );

  test("report an encrypted key as a configuration error", async () => {
    const { code, stderr } = await runParley(["config", "check"], {
      env: createEnv(certificate.certFile, `${certificate.keyFile}.encrypted`),
    });
    expect({ code, stderr }).toEqual({
      code: 2,
      stderr: expect.stringMatching(/^TLS_KEY_FILE: the key is encrypted;/),
    });
    expect(stderr.trim().split("\n")).toHaveLength(1);
  });

  test("accept a valid certificate and key", async () => {
    const { code } = await runParley(["config", "check"], {
      env: createEnv(certificate.certFile, certificate.keyFile),
    });
    expect(code).toBe(0);
  });
});
