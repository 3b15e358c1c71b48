import { S3Client } from "bun";
import { ArchiveError, type ByteSource } from "../../db/archive.ts";
import type { BackupStore } from "./store.ts";

/** The minimum size of an uploaded part. */
const PART_BYTES_MIN = 16 * 1024 * 1024;
/** S3's maximum number of parts per object. */
const PARTS_MAX = 10_000;
/** The assumed maximum growth since the last backup, as a factor. */
const GROWTH_FACTOR_MAX = 4;
/** The maximum number of parts of an upload that are in memory while they are sent. */
const QUEUED_PARTS_MAX = 2;
/** The number of bytes read per request. */
const CHUNK_BYTES = 8 * 1024 * 1024;
/** The maximum number of retries of a failed request. */
const RETRIES_MAX = 3;
const RETRY_DELAY_MS = 500;

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
export function createS3Store({ prefix, retryMs = RETRY_DELAY_MS, ...options }: S3Options): BackupStore {
  // Every option is set, because otherwise AWS_… environment variables would apply.
  const client = new S3Client(options);
  const location = `s3://${options.bucket}/${prefix}`;
  let partBytes = PART_BYTES_MIN;

  async function sendWithRetries<T>(action: string, request: () => Promise<T>): Promise<T> {
    for (let failures = 0; ; failures += 1)
      try {
        return await request();
      } catch (error) {
        if (failures === RETRIES_MAX || !isTemporary(error)) throw createStoreError(action, error);
        await Bun.sleep(retryMs * 2 ** failures);
      }
  }

  const createStoreError = (action: string, error: unknown): ArchiveError =>
    new ArchiveError("file", `${location} can't be ${action} (${describeError(error)}); ${findRemedy(error)}.`, {
      cause: error,
    });

  async function* readChunks(name: string, bytes: number): ByteSource {
    for (let from = 0; from < bytes; from += CHUNK_BYTES) {
      const to = Math.min(bytes, from + CHUNK_BYTES);
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
      partBytes = Math.max(PART_BYTES_MIN, Math.ceil(((expectedBytes ?? 0) * GROWTH_FACTOR_MAX) / PARTS_MAX));
      // Detects invalid credentials before the database is read.
      await sendWithRetries("read", () => client.list({ prefix, maxKeys: 1 }));
    },

    async create(name) {
      const writer = client
        .file(prefix + name)
        .writer({ partSize: partBytes, queueSize: QUEUED_PARTS_MAX, retry: RETRIES_MAX });
      let unsentBytes = 0;
      const runWriteStep = async (step: () => number | Promise<number>) => {
        try {
          await step();
        } catch (error) {
          throw createStoreError("written", error);
        }
      };
      return {
        async write(bytes) {
          await runWriteStep(() => writer.write(bytes));
          unsentBytes += bytes.length;
          if (unsentBytes < partBytes) return;
          unsentBytes = 0;
          // Waits until the part is sent. Otherwise, the whole backup could accumulate in memory if the bucket is slow.
          await runWriteStep(() => writer.flush());
        },
        finish: () => runWriteStep(() => writer.end()),
        async discard() {
          // The client can't abort an upload, so the upload is finished, and then the object is removed.
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
      if (size === bytes) return readChunks(name, bytes);
      throw new ArchiveError(
        "damaged",
        `${name} has ${size} bytes in ${location}, but ${bytes} were sent. Check whether anything else changes objects in this bucket.`,
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

const getErrorCode = (error: unknown): string =>
  error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "";

const remedies: Record<string, string> = {
  AccessDenied: "allow this key to list, read, write and delete objects in the bucket",
  InvalidAccessKeyId: "check BACKUP_S3_ACCESS_KEY_ID",
  SignatureDoesNotMatch: "check BACKUP_S3_SECRET_ACCESS_KEY and BACKUP_S3_REGION",
  AuthorizationHeaderMalformed: "set BACKUP_S3_REGION to the bucket's region",
  PermanentRedirect: "set BACKUP_S3_REGION to the bucket's region",
  NoSuchBucket: "create the bucket, or correct BACKUP_S3_BUCKET",
  ConnectionRefused: "check BACKUP_S3_ENDPOINT, and that the store is running",
};

const isTemporary = (error: unknown): boolean => {
  const code = getErrorCode(error);
  return code !== "NoSuchKey" && (!(code in remedies) || code === "ConnectionRefused");
};

const findRemedy = (error: unknown): string =>
  remedies[getErrorCode(error)] ?? "check BACKUP_S3_ENDPOINT and the store's log";

function describeError(error: unknown): string {
  const code = getErrorCode(error);
  const message = error instanceof Error ? error.message.replace(/\.$/, "") : String(error);
  return code && !message.includes(code) ? `${code}: ${message}` : message;
}
