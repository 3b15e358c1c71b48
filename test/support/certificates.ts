import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect } from "node:tls";

export type Certificate = { certFile: string; keyFile: string; cert: string; key: string };

type Options = {
  /** Days until it expires; negative for an expired one. */
  days?: number;
  /** The issuer; absent: self-signed. */
  issuer?: Certificate;
  /** The type of its key; absent: an elliptic curve. */
  algorithm?: "ec" | "rsa";
  /**
   * Subject alternative names, and whether it is a CA, which browsers and proxies require; absent: neither extension is
   * set.
   */
  extensions?: "local" | "authority";
  /** Additional names, with these extensions. */
  names?: string[];
};

/** A folder of certificates, created with `openssl`. */
export function createCertificates() {
  const folder = mkdtempSync(join(tmpdir(), "parley-tls-"));
  const path = (name: string) => join(folder, name);
  let made = 0;

  function openssl(...args: string[]): void {
    const { exitCode, stderr } = Bun.spawnSync(["openssl", ...args], { stderr: "pipe" });
    if (exitCode !== 0) throw new Error(`openssl ${args.join(" ")}: ${stderr}`);
  }

  return {
    path,

    /** A certificate with this common name. */
    create(
      commonName: string,
      { days = 30, issuer, algorithm = "ec", extensions, names = [] }: Options = {},
    ): Certificate {
      made += 1;
      const [certFile, keyFile, requestFile] = [path(`${made}.crt`), path(`${made}.key`), path(`${made}.csr`)];
      if (algorithm === "rsa") openssl("genrsa", "-out", keyFile, "2048");
      else openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", keyFile);
      openssl("req", "-new", "-key", keyFile, "-subj", `/CN=${commonName}`, "-out", requestFile);
      const signer = issuer
        ? ["-CA", issuer.certFile, "-CAkey", issuer.keyFile, "-CAcreateserial"]
        : ["-signkey", keyFile];
      const written = path(`${made}.ext`);
      const isAuthority = extensions === "authority" ? "TRUE" : "FALSE";
      writeFileSync(
        written,
        `subjectAltName=DNS:localhost,IP:127.0.0.1${names.map((name) => `,DNS:${name}`).join("")}\nbasicConstraints=CA:${isAuthority}\n`,
      );
      const out = ["-days", String(days), ...(extensions ? ["-extfile", written] : []), "-out", certFile];
      openssl("x509", "-req", "-in", requestFile, ...signer, ...out);
      return { certFile, keyFile, cert: readFileSync(certFile, "utf8"), key: readFileSync(keyFile, "utf8") };
    },

    /** The key of a certificate, encrypted with a passphrase. */
    encryptKey({ keyFile }: Certificate): string {
      const encrypted = `${keyFile}.encrypted`;
      openssl("pkey", "-in", keyFile, "-aes256", "-passout", "pass:hunter2", "-out", encrypted);
      return readFileSync(encrypted, "utf8");
    },

    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}

/** The common names of the certificate chain that a server presents, its own first. */
export function readServedNames(port: number): Promise<string[]> {
  const { promise, resolve, reject } = Promise.withResolvers<string[]>();
  const socket = connect({ port, host: "127.0.0.1", servername: "localhost", rejectUnauthorized: false }, () => {
    const names: string[] = [];
    let certificate = socket.getPeerCertificate(true);
    while (certificate?.subject && names.at(-1) !== certificate.subject.CN) {
      names.push(String(certificate.subject.CN));
      certificate = certificate.issuerCertificate;
    }
    socket.destroy();
    resolve(names);
  });
  socket.on("error", reject);
  return promise;
}
