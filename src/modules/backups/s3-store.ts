import { S3Client } from "bun";
import { ArchiveError, type ByteSource } from "../../db/archive.ts";
import type { BackupStore } from "./store.ts";

/** Smallest size of an uploaded part. */
const PART_BYTES_MIN = 16 * 1024 * 1024;
/** S3 allows at most 10,000 parts per object. */
const PARTS_MAX = 10_000;
/** Maximum assumed growth from the last backup to this one. */
const GROWTH_MAX = 4;
/** Parts that are in memory while they are sent. */
const QUEUED_PARTS = 2;
/** How much of an object is read per request. */
const PIECE_BYTES = 8 * 1024 * 1024;
/** Retries of a failed request. */
const RETRIES = 3;
const RETRY_MS = 500;

export type S3Options = {
  bucket: string;
  /** Ends with a slash, or is empty. */
  prefix: string;
  region: string;
  endpoint: string | undefined;
  accessKeyId: string;
  secretAccessKey: string;
  retryMs?: number;
};

/** Stores backups as objects in a bucket. They are streamed during the backup, without local files. */
export function createS3Store({ prefix, retryMs = RETRY_MS, ...options }: S3Options): BackupStore {
  // Set everything explicitly: defaults would take credentials from AWS_… in the environment.
  const client = new S3Client(options);
  const location = `s3://${options.bucket}/${prefix}`;
  let partBytes = PART_BYTES_MIN;

  async function sendWithRetries<T>(action: string, request: () => Promise<T>): Promise<T> {
    for (let failures = 0; ; failures += 1)
      try {
        return await request();
      } catch (error) {
        if (failures === RETRIES || !isTemporary(error)) throw explain(action, error);
        await Bun.sleep(retryMs * 2 ** failures);
      }
  }

  const explain = (action: string, error: unknown): ArchiveError =>
    new ArchiveError("file", `${location} can't be ${action} (${describe(error)}); ${findRemedy(error)}.`, {
      cause: error,
    });

  async function* readPieces(name: string, bytes: number): ByteSource {
    for (let from = 0; from < bytes; from += PIECE_BYTES) {
      const to = Math.min(bytes, from + PIECE_BYTES);
      yield await sendWithRetries("read", () =>
        client
          .file(prefix + name)
          .slice(from, to)
          .bytes(),
      );
    }
  }

  return {
    location,

    async prepare(expectedBytes) {
      partBytes = Math.max(PART_BYTES_MIN, Math.ceil(((expectedBytes ?? 0) * GROWTH_MAX) / PARTS_MAX));
      // Detects wrong credentials before the database is read.
      await sendWithRetries("read", () => client.list({ prefix, maxKeys: 1 }));
    },

    async create(name) {
      const writer = client
        .file(prefix + name)
        .writer({ partSize: partBytes, queueSize: QUEUED_PARTS, retry: RETRIES });
      let unsentBytes = 0;
      const send = async (step: () => number | Promise<number>) => {
        try {
          await step();
        } catch (error) {
          throw explain("written", error);
        }
      };
      return {
        async write(bytes) {
          await send(() => writer.write(bytes));
          unsentBytes += bytes.length;
          if (unsentBytes < partBytes) return;
          unsentBytes = 0;
          // Otherwise the whole backup would pile up in memory while the bucket is slow.
          await send(() => writer.flush());
        },
        finish: () => send(() => writer.end()),
        async discard() {
          // The client can't abort an upload: finish it, then remove the object.
          try {
            await writer.end();
          } finally {
            await sendWithRetries("changed", () => client.delete(prefix + name));
          }
        },
      };
    },

    async read(name, bytes) {
      const { size } = await sendWithRetries("read", () => client.stat(prefix + name));
      if (size === bytes) return readPieces(name, bytes);
      throw new ArchiveError(
        "damaged",
        `${name} has ${size} bytes in ${location}, but ${bytes} were sent. Check action else changes objects of this bucket.`,
      );
    },

    async list() {
      const names: string[] = [];
      let continuationToken: string | undefined;
      do {
        const token = continuationToken;
        const page = await sendWithRetries("listed", () =>
          client.list({ prefix, ...(token && { continuationToken: token }) }),
        );
        for (const { key } of page.contents ?? []) if (key.startsWith(prefix)) names.push(key.slice(prefix.length));
        continuationToken = page.isTruncated ? page.nextContinuationToken : undefined;
      } while (continuationToken);
      return names;
    },

    remove: (name) => sendWithRetries("changed", () => client.delete(prefix + name)),
  };
}

const codeOf = (error: unknown): string =>
  error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "";

const remedies: Record<string, string> = {
  AccessDenied: "allow this key to list, read, write and delete objects of the bucket",
  InvalidAccessKeyId: "check BACKUP_S3_ACCESS_KEY_ID",
  SignatureDoesNotMatch: "check BACKUP_S3_SECRET_ACCESS_KEY and BACKUP_S3_REGION",
  AuthorizationHeaderMalformed: "set BACKUP_S3_REGION to the bucket's region",
  PermanentRedirect: "set BACKUP_S3_REGION to the bucket's region",
  NoSuchBucket: "create the bucket, or correct BACKUP_S3_BUCKET",
  ConnectionRefused: "check BACKUP_S3_ENDPOINT, and that the store is running",
};

const isTemporary = (error: unknown): boolean => {
  const code = codeOf(error);
  return code !== "NoSuchKey" && (!(code in remedies) || code === "ConnectionRefused");
};

const findRemedy = (error: unknown): string =>
  remedies[codeOf(error)] ?? "check BACKUP_S3_ENDPOINT and the store's log";

function describe(error: unknown): string {
  const code = codeOf(error);
  const message = error instanceof Error ? error.message.replace(/\.$/, "") : String(error);
  return code && !message.includes(code) ? `${code}: ${message}` : message;
}
