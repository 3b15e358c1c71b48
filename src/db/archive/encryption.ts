import { randomBytes, scrypt } from "node:crypto";
import { promisify } from "node:util";
import { chacha20poly1305 } from "@noble/ciphers/chacha.js";
import { Decrypter, Encrypter, type Identity, type Recipient, Stanza } from "age-encryption";
import type { ByteSource } from "./byte-reader.ts";
import { ArchiveError } from "./error.ts";
import type { Sink } from "./writer.ts";

// Encrypted backups are age files (age-encryption.org/v1, C2SP), so `age -d` can decrypt them. The package `age-encryption` implements the
// format. The key is derived here, because the package's scrypt would block the event loop for a second.

/** The first line of an encrypted file. */
export const AGE_VERSION_LINE = "age-encryption.org/v1\n";

const SCRYPT_LABEL = "age-encryption.org/v1/scrypt";
/** The base-2 logarithm of scrypt's cost, as in age: each guess of the passphrase takes about a second and 256 MiB. */
const WORK_FACTOR = 18;
/** The highest work factor accepted in a file. It needs 1 GiB. */
const WORK_FACTOR_MAX = 20;
/** The maximum size of a header. It is usually about 150 bytes long, but the package would buffer any length. */
const HEADER_BYTES_MAX = 1_048_576;
const SALT_BYTES = 16;
const KEY_BYTES = 32;
/** The memory per round of scrypt, with a block size of 8. */
const BYTES_PER_ROUND = 128 * 8;
const NONCE = new Uint8Array(12);

const deriveBytes = promisify<string, Uint8Array, number, object, Buffer>(scrypt);

async function deriveKey(passphrase: string, salt: Uint8Array, workFactor: number): Promise<Buffer> {
  const N = 2 ** workFactor;
  const options = { N, r: 8, p: 1, maxmem: 2 * N * BYTES_PER_ROUND };
  return await deriveBytes(passphrase, Buffer.concat([Buffer.from(SCRYPT_LABEL), salt]), KEY_BYTES, options);
}

/** Encodes bytes as base64 without padding, like age. */
const encodeBase64 = (bytes: Buffer): string => bytes.toString("base64").replace(/=+$/, "");

const createRecipient = (passphrase: string): Recipient => ({
  async wrapFileKey(fileKey) {
    const salt = randomBytes(SALT_BYTES);
    const key = await deriveKey(passphrase, salt, WORK_FACTOR);
    const body = chacha20poly1305(key, NONCE).encrypt(fileKey);
    return [new Stanza(["scrypt", encodeBase64(salt), String(WORK_FACTOR)], body)];
  },
});

const createIdentity = (passphrase: string): Identity => ({
  async unwrapFileKey(stanzas) {
    const [kind, saltText = "", factorText = ""] = stanzas[0]?.args ?? [];
    if (stanzas.length !== 1 || kind !== "scrypt")
      throw new ArchiveError(
        "passphrase",
        "The file is encrypted to an age key, not with a passphrase; decrypt it with `age -d -i KEYFILE`, and use the result.",
      );
    const salt = Buffer.from(saltText, "base64");
    const workFactor = /^[1-9]\d?$/.test(factorText) ? Number(factorText) : Number.NaN;
    if (salt.length !== SALT_BYTES || !(workFactor <= WORK_FACTOR_MAX)) throw createDamagedHeaderError();
    const key = await deriveKey(passphrase, salt, workFactor);
    try {
      return chacha20poly1305(key, NONCE).decrypt(stanzas[0]?.body ?? new Uint8Array());
    } catch (cause) {
      throw new ArchiveError(
        "passphrase",
        "The passphrase is wrong. Set BACKUP_PASSPHRASE to the passphrase this backup was made with.",
        { cause },
      );
    }
  },
});

const createDamagedHeaderError = (cause?: unknown) =>
  new ArchiveError(
    "damaged",
    "The backup is damaged (encryption header). Copy it again from its source, or use a different backup.",
    { cause },
  );

/** Creates a sink that encrypts bytes and passes them to another sink. The output is complete once `close` has resolved. */
export async function createEncryptingSink(
  sink: Sink,
  passphrase: string,
): Promise<{ sink: Sink; close(): Promise<void>; abort(): Promise<void> }> {
  const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
  const encrypter = new Encrypter();
  encrypter.addRecipient(createRecipient(passphrase));
  const encrypted = await encrypter.encrypt(readable);
  const output = (async () => {
    for await (const bytes of encrypted) await sink(bytes);
  })();
  output.catch(() => {});
  const writer = writable.getWriter();
  writer.closed.catch(() => {});
  // If the sink fails, its error is thrown instead of the stream's.
  const raceWithOutput = async (work: Promise<void>) => {
    work.catch(() => {});
    await Promise.race([work.catch(() => output), output]);
  };

  return {
    sink: (bytes) => raceWithOutput(writer.write(bytes)),
    async close() {
      await raceWithOutput(writer.close());
      await output;
    },
    async abort() {
      await writer.abort().catch(() => {});
      await output.catch(() => {});
    },
  };
}

/**
 * Decrypts an encrypted file.
 * @throws ArchiveError if the passphrase is wrong. Reading the result throws ArchiveError if bytes have changed or are missing.
 */
export async function decrypt(source: ByteSource, passphrase: string): Promise<ByteSource> {
  let isAtEnd = false;
  let isHeaderRead = false;
  async function* watchSource(): ByteSource {
    let bytes = 0;
    for await (const chunk of source) {
      bytes += chunk.length;
      if (!isHeaderRead && bytes > HEADER_BYTES_MAX) throw createDamagedHeaderError();
      yield chunk;
    }
    isAtEnd = true;
  }
  const decrypter = new Decrypter();
  decrypter.addIdentity(createIdentity(passphrase));
  const encrypted = createReadable(watchSource());
  const plain = await decrypter.decrypt(encrypted).catch((error: unknown) => {
    throw error instanceof ArchiveError ? error : createDamagedHeaderError(error);
  });
  isHeaderRead = true;
  return (async function* () {
    try {
      yield* plain as AsyncIterable<Uint8Array>;
    } catch (cause) {
      if (cause instanceof ArchiveError || isSystemError(cause)) throw cause;
      throw isAtEnd
        ? new ArchiveError(
            "truncated",
            "The backup is truncated, or damaged at its end. Copy it again from its source, or use a different backup.",
            { cause },
          )
        : new ArchiveError(
            "damaged",
            "The backup is damaged: some bytes have changed. Copy it again from its source, or use a different backup.",
            { cause },
          );
    }
  })();
}

/** Returns whether the error comes from the operating system, for example because the disk is failing. */
const isSystemError = (error: unknown): boolean => error instanceof Error && "code" in error;

function createReadable(source: ByteSource): ReadableStream<Uint8Array> {
  const iterator = source[Symbol.asyncIterator]();
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const next = await iterator.next();
        if (next.done) controller.close();
        else controller.enqueue(next.value);
      },
      async cancel() {
        await iterator.return?.();
      },
    },
    { highWaterMark: 0 },
  );
}
