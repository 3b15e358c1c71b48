import { afterAll, beforeAll, beforeEach, expect, test } from "bun:test";
import { readFileSync, unlinkSync } from "node:fs";
import { ArchiveError } from "../../src/db/archive.ts";
import { formatBackupName } from "../../src/modules/backups/names.ts";
import { createS3Store, type S3Options } from "../../src/modules/backups/s3-store.ts";
import { startApp } from "../support/app.ts";
import { startFakeS3 } from "../support/fake-s3.ts";
import { createTestLog } from "../support/log.ts";

const MIB = 1024 * 1024;
let s3: ReturnType<typeof startFakeS3>;
beforeAll(() => {
  s3 = startFakeS3();
});
afterAll(() => s3.stop());
beforeEach(() => {
  s3.objects.clear();
  s3.requests.length = 0;
  s3.state.intercept = () => undefined;
  s3.state.pageKeysMax = 1_000;
  s3.state.delayMs = 0;
});

const createStore = (changes: Partial<S3Options> = {}) => {
  const { bucket, region, endpoint, accessKeyId, secretAccessKey } = s3;
  return createS3Store({
    bucket,
    region,
    endpoint,
    accessKeyId,
    secretAccessKey,
    prefix: "p/",
    retryMs: 1,
    ...changes,
  });
};

const getErrorMessage = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => "fulfilled",
    (error) => (error instanceof ArchiveError ? error.message : `another error: ${error}`),
  );

async function readAll(source: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of source) chunks.push(chunk);
  return Buffer.concat(chunks);
}

test("data written in chunks of any size is uploaded in parts, and read back unchanged", async () => {
  const store = createStore();
  await store.prepare(null);
  const content = Buffer.alloc(45 * MIB + 12_345);
  for (let offset = 0; offset < content.length; offset += 4)
    content.writeUInt32LE(offset, Math.min(offset, content.length - 4));
  const file = await store.create("a");
  for (let offset = 0; offset < content.length; offset += 777_777)
    await file.write(content.subarray(offset, offset + 777_777));
  expect(s3.objects.size).toBe(0);
  await file.finish();
  expect(s3.requests.filter((request) => request.includes("partNumber")).length).toBeGreaterThan(2);
  expect([...s3.objects.keys()]).toEqual(["p/a"]);
  expect(s3.objects.get("p/a")?.equals(content)).toBe(true);
  expect((await readAll(await store.read("a", content.length))).equals(content)).toBe(true);
  expect(await getErrorMessage(store.read("a", content.length - 1))).toMatch(
    /^a has 4\d+ bytes in s3:\/\/backups\/p\/, but .+ Check whether /,
  );
});

test("memory use is limited while the bucket is slow", async () => {
  const store = createStore();
  await store.prepare(null);
  s3.state.delayMs = 50;
  const file = await store.create("slow");
  let sentBytes = 0;
  let bufferedBytesMax = 0;
  for (; sentBytes < 96 * MIB; sentBytes += MIB) {
    await file.write(Buffer.alloc(MIB));
    const arrivedBytes = [...s3.uploads.values()]
      .flatMap(({ parts }) => [...parts.values()])
      .reduce((sum, { length }) => sum + length, 0);
    bufferedBytesMax = Math.max(bufferedBytesMax, sentBytes + MIB - arrivedBytes);
  }
  await file.finish();
  expect(bufferedBytesMax).toBeLessThanOrEqual(48 * MIB);
  expect(s3.objects.get("p/slow")?.length).toBe(96 * MIB);
});

test.each([1, 20])("a discarded backup of %p MiB leaves nothing in the bucket", async (mib) => {
  const file = await createStore().create("b");
  for (let n = 0; n < mib; n += 1) await file.write(Buffer.alloc(MIB));
  await file.discard();
  expect(s3.objects.size).toBe(0);
  expect(s3.uploads.size).toBe(0);
});

test("temporary failures are retried, and a permanent failure is reported with a remedy", async () => {
  const store = createStore();
  let remainingRejections = 2;
  const createSlowDownResponse = () =>
    new Response("<Error><Code>SlowDown</Code><Message>Slow down.</Message></Error>", { status: 503 });
  s3.state.intercept = ({ query, method }) => {
    // Bun's client doesn't retry the start of an upload. The whole backup is retried a minute later.
    if (method === "POST") return undefined;
    remainingRejections -= query.get("partNumber") === "1" || !query.has("partNumber") ? 1 : 0;
    return remainingRejections >= 0 ? createSlowDownResponse() : undefined;
  };
  await store.prepare(null);
  remainingRejections = 2;
  const file = await store.create("c");
  for (let n = 0; n < 20; n += 1) await file.write(Buffer.alloc(MIB));
  await file.finish();
  expect(s3.objects.get("p/c")?.length).toBe(20 * MIB);
  remainingRejections = Number.POSITIVE_INFINITY;
  expect(await getErrorMessage(store.list())).toBe(
    "s3://backups/p/ can't be listed (SlowDown: Slow down); check BACKUP_S3_ENDPOINT and the store's log.",
  );
});

test.each([
  [
    { secretAccessKey: "wrong" },
    /^s3:\/\/backups\/p\/ can't be read \(SignatureDoesNotMatch.+\); check BACKUP_S3_SECRET_ACCESS_KEY and BACKUP_S3_REGION\.$/,
  ],
  [{ bucket: "another" }, /NoSuchBucket.+; create the bucket, or correct BACKUP_S3_BUCKET\.$/],
  [{ endpoint: "http://127.0.0.1:1" }, /; check BACKUP_S3_ENDPOINT, and that the store is running\.$/],
])("the incorrect setting %j is reported without the secret before anything is written", async (changes, expected) => {
  const message = await getErrorMessage(createStore(changes).prepare(null));
  expect(message).toMatch(expected);
  expect(message).not.toContain(s3.secretAccessKey);
  expect(message).not.toContain("wrong");
});

test("listing fetches all pages, and returns only names with the prefix", async () => {
  s3.state.pageKeysMax = 3;
  for (let n = 0; n < 8; n += 1) s3.objects.set(`p/${n}`, Buffer.from("x"));
  s3.objects.set("q/8", Buffer.from("x"));
  const store = createStore();
  expect(await store.list()).toEqual(["0", "1", "2", "3", "4", "5", "6", "7"]);
  await store.remove("3");
  expect(await store.list()).not.toContain("3");
});

test("scheduled backups are written to the bucket and verified, and old ones are deleted", async () => {
  const { log, lines } = createTestLog();
  const parley = await startApp({
    log,
    config: {
      BACKUP_SCHEDULE: "* * * * * *",
      BACKUP_KEEP: "1",
      BACKUP_S3_BUCKET: s3.bucket,
      BACKUP_S3_PREFIX: "deep/er",
      BACKUP_S3_REGION: s3.region,
      BACKUP_S3_ENDPOINT: s3.endpoint,
      BACKUP_S3_ACCESS_KEY_ID: s3.accessKeyId,
      BACKUP_S3_SECRET_ACCESS_KEY: s3.secretAccessKey,
    },
  });
  const [{ origin } = { origin: "" }] = await (async () => {
    for (;;) {
      const rows = await parley.database<{ origin: string }[]>`select origin from backup_schedule`;
      if (rows.length > 0) return rows;
      await Bun.sleep(20);
    }
  })();
  const oldKey = `deep/er/${formatBackupName(new Date("2020-01-01"), origin)}`;
  const otherDatabaseKey = `deep/er/${formatBackupName(new Date("2020-01-01"), "ffffffff")}`;
  for (const key of [oldKey, otherDatabaseKey]) s3.objects.set(key, Buffer.from("old"));
  while (s3.objects.has(oldKey)) await Bun.sleep(20);
  await parley.stop();
  const [createdKey = "", extraKey] = [...s3.objects.keys()].filter((key) => key !== otherDatabaseKey);
  expect(extraKey).toBeUndefined();
  expect(s3.objects.has(otherDatabaseKey)).toBe(true);
  expect(createdKey).toMatch(/^deep\/er\/parley-\d{8}T\d{6}Z-[0-9a-f]{8}\.backup$/);
  const file = `/tmp/parley-s3-${process.pid}.backup`;
  await Bun.write(file, s3.objects.get(createdKey) ?? "");
  expect(readFileSync(file).includes("parley-backup")).toBe(true);
  unlinkSync(file);
  expect(lines.map(({ msg }) => msg)).toContain("scheduled backup written and verified");
  expect(JSON.stringify(lines)).not.toContain(s3.secretAccessKey);
}, 60_000);
