import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect } from "node:tls";

export type Certificate = { certFile: string; keyFile: string; cert: string; key: string };

type Options = {
  /** Days until the certificate expires. If negative, it has already expired. */
  days?: number;
  /** If absent, the certificate is self-signed. */
  issuer?: Certificate;
  /** The key type. The default is `ec` (elliptic curve). */
  algorithm?: "ec" | "rsa";
  /**
   * Adds the extensions that browsers and proxies require: the subject alternative names of this machine, and whether
   * the certificate is a CA (`authority`) or not (`local`).
   */
  extensions?: "local" | "authority";
  /** Additional subject alternative names. They require `extensions`. */
  names?: string[];
};

/** Creates a folder, and returns functions that create certificates in it with `openssl`. */
export function createCertificates() {
  const folder = mkdtempSync(join(tmpdir(), "parley-tls-"));
  const getPath = (name: string) => join(folder, name);
  let certificateCount = 0;

  function runOpenssl(...args: string[]): void {
    const { exitCode, stderr } = Bun.spawnSync(["openssl", ...args], { stderr: "pipe" });
    if (exitCode !== 0) throw new Error(`openssl ${args.join(" ")}: ${stderr}`);
  }

  return {
    getPath,

    /** Creates a certificate and its key. */
    create(
      commonName: string,
      { days = 30, issuer, algorithm = "ec", extensions, names = [] }: Options = {},
    ): Certificate {
      certificateCount += 1;
      const [certFile, keyFile, requestFile] = [
        getPath(`${certificateCount}.crt`),
        getPath(`${certificateCount}.key`),
        getPath(`${certificateCount}.csr`),
      ];
      if (algorithm === "rsa") runOpenssl("genrsa", "-out", keyFile, "2048");
      else runOpenssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", keyFile);
      runOpenssl("req", "-new", "-key", keyFile, "-subj", `/CN=${commonName}`, "-out", requestFile);
      const signerArgs = issuer
        ? ["-CA", issuer.certFile, "-CAkey", issuer.keyFile, "-CAcreateserial"]
        : ["-signkey", keyFile];
      const extensionsFile = getPath(`${certificateCount}.ext`);
      const isAuthority = extensions === "authority" ? "TRUE" : "FALSE";
      writeFileSync(
        extensionsFile,
        `subjectAltName=DNS:localhost,IP:127.0.0.1${names.map((name) => `,DNS:${name}`).join("")}\nbasicConstraints=CA:${isAuthority}\n`,
      );
      const outputArgs = ["-days", String(days), ...(extensions ? ["-extfile", extensionsFile] : []), "-out", certFile];
      runOpenssl("x509", "-req", "-in", requestFile, ...signerArgs, ...outputArgs);
      return { certFile, keyFile, cert: readFileSync(certFile, "utf8"), key: readFileSync(keyFile, "utf8") };
    },

    /** Encrypts a certificate's key with the passphrase `hunter2`. Writes it to a file, and returns it. */
    encryptKey({ keyFile }: Certificate): string {
      const encryptedFile = `${keyFile}.encrypted`;
      runOpenssl("pkey", "-in", keyFile, "-aes256", "-passout", "pass:hunter2", "-out", encryptedFile);
      return readFileSync(encryptedFile, "utf8");
    },

    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}

/** Returns the common names in the certificate chain that a server sends. The server's own certificate comes first. */
export function fetchCertificateNames(port: number): Promise<string[]> {
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
