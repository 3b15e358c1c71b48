import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { connect } from "node:net";
import { gzipSync } from "node:zlib";
import { zipSync } from "fflate";
import type { Import } from "../../src/modules/imports/model.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createChatGpt, createClaude, sendFile, waitForImport } from "../support/imports.ts";
import { createRest } from "../support/rest.ts";

const BYTES_MAX = 3 * 1024 * 1024;

let parley: TestApp;
let anna: Account;

beforeAll(async () => {
  parley = await startApp({ config: { IMPORT_BYTES_MAX: String(BYTES_MAX) } });
  anna = await parley.register();
});
afterAll(() => parley.stop());

const chat = (id: string, text = "Question") => createChatGpt(id, { [text]: {}, Answer: {} });
const bytesOf = (file: unknown) => new TextEncoder().encode(JSON.stringify(file));

async function importAs(body: NonNullable<RequestInit["body"]>, headers: Record<string, string>): Promise<Import> {
  const response = await sendFile(parley, anna, "chatgpt", body, headers);
  if (response.status !== 202) throw new Error(`${response.status} ${await response.text()}`);
  return waitForImport(parley, anna, ((await response.json()) as Import).id);
}

async function refusedAs(body: NonNullable<RequestInit["body"]>, headers: Record<string, string>) {
  const response = await sendFile(parley, anna, "chatgpt", body, headers);
  const { code, detail } = (await response.json()) as { code: string; detail: string };
  return { status: response.status, code, detail };
}

const createForm = (field: string, bytes: Uint8Array, name = "conversations.json") => {
  const form = new FormData();
  form.append("note", "hello");
  form.append(field, new Blob([bytes.slice()]), name);
  return form;
};

/** The rows left in the database by aborted uploads. */
const countLeft = async () =>
  (
    await parley.database`select id from imports where status = 'uploading' union all select import_id from import_pieces`
  ).length;

async function waitForNothing(): Promise<void> {
  while ((await countLeft()) > 0) await Bun.sleep(20);
}

describe("a file is accepted", () => {
  test("as a field of a form, in any number of pieces", async () => {
    const file = bytesOf([chat("form", "ü".repeat(100_000))]);
    expect(await importAs(createForm("file", file) as never, {})).toMatchObject({
      status: "done",
      imported: 1,
      bytes: file.length,
    });
  });

  test("if it is larger than a stored piece, complete and in order", async () => {
    const file = bytesOf(Array.from({ length: 40 }, (_, n) => chat(`pieces-${n}`, `${n} ${"x".repeat(9_500)}`)));
    expect(file.length).toBeGreaterThan(2 * 1024 * 1024);
    expect(await importAs(file, { "content-type": "application/json" })).toMatchObject({
      imported: 40,
      skipped: 0,
      bytes: file.length,
    });
  });

  test("as a stream without a length", async () => {
    const file = bytesOf([chat("stream")]);
    const stream = new ReadableStream<Uint8Array>({
      async start(controller) {
        for (const byte of [file.subarray(0, 10), file.subarray(10, 11), file.subarray(11)]) {
          controller.enqueue(byte);
          await Bun.sleep(5);
        }
        controller.close();
      },
    });
    expect(await importAs(stream, { "content-type": "application/json" })).toMatchObject({ imported: 1 });
  });

  test("as a ZIP archive with several conversation files among others", async () => {
    const zip = zipSync({
      "export/conversations-000.json": bytesOf([chat("zip-1")]),
      "export/user.json": bytesOf({ id: "x" }),
      "export/conversations-001.json": bytesOf([chat("zip-2"), chat("zip-3")]),
      "export/image.png": new Uint8Array(100_000),
    });
    expect(await importAs(zip, { "content-type": "application/zip" })).toMatchObject({
      imported: 3,
      skipped: 0,
      status: "done",
    });
    expect(await importAs(createForm("file", zip, "export.zip") as never, {})).toMatchObject({
      imported: 0,
      skipped: 3,
    });
    const stored = zipSync({ "conversations.json": bytesOf([chat("zip-4")]) }, { level: 0 });
    expect(await importAs(stored, { "content-type": "application/octet-stream" })).toMatchObject({ imported: 1 });
  });
});

describe("a ZIP archive fails", () => {
  const zipped = { "content-type": "application/zip" };

  test("if it decompresses to more than the limit of a file", async () => {
    const bomb = zipSync(
      { "conversations.json": new TextEncoder().encode(`[${" ".repeat(20 * 1024 * 1024)}]`) },
      { level: 9 },
    );
    expect(bomb.length).toBeLessThan(100_000);
    expect(await importAs(bomb, zipped)).toMatchObject({ status: "failed", error: { code: "too_large" } });
  });

  test("if it has no conversations, or is corrupt", async () => {
    expect(await importAs(zipSync({ "chat.html": bytesOf("x") }), zipped)).toMatchObject({
      status: "failed",
      error: { code: "invalid", detail: "The ZIP archive contains no conversations.json." },
    });
    const whole = zipSync({ "conversations.json": bytesOf([chat("broken", "y".repeat(50_000))]) }, { level: 6 });
    const broken = whole.slice();
    broken.fill(0xff, 60, 120);
    const done = await importAs(broken, zipped);
    expect(done).toMatchObject({ status: "failed", imported: 0 });
    expect(await importAs(whole.subarray(0, 80), zipped)).toMatchObject({ status: "failed", imported: 0 });
  });
});

describe("an upload is refused", () => {
  test("in another format, encoded, empty, or without the file", async () => {
    const json = { "content-type": "application/json" };
    expect(await refusedAs("x", { "content-type": "text/csv" })).toMatchObject({ status: 415 });
    expect(await refusedAs(gzipSync("[]"), { ...json, "content-encoding": "gzip" })).toMatchObject({ status: 415 });
    expect(await refusedAs("", json)).toMatchObject({ status: 400 });
    expect(await refusedAs(createForm("other", bytesOf([])) as never, {})).toMatchObject({
      status: 422,
      code: "invalid",
    });
    expect(await refusedAs("x", { "content-type": "multipart/form-data" })).toMatchObject({ status: 400 });
    expect(
      await refusedAs('--b\r\ncontent-disposition: form-data; name="file"; filename="f"\r\n\r\n[1,', {
        "content-type": "multipart/form-data; boundary=b",
      }),
    ).toMatchObject({ status: 400 });
    expect(await countLeft()).toBe(0);
  });

  test("from an unknown source, without a credential, or with a key that may not write messages", async () => {
    for (const source of ["", "gemini"]) {
      const response = await sendFile(parley, anna, source, "[]");
      expect(response.status).toBe(422);
    }
    expect((await parley.fetch("/api/v1/imports?source=chatgpt", { method: "POST", body: "[]" })).status).toBe(401);
    for (const [scopes, status] of [
      [["conversations:write"], 403],
      [["messages:write"], 403],
      [["conversations:write", "messages:write"], 202],
    ] as const) {
      const { body } = await createRest(parley, anna).request<{ key: string }>("POST", "/api-keys", {
        name: "k",
        scopes,
      });
      const response = await parley.fetch("/api/v1/imports?source=chatgpt", {
        method: "POST",
        token: body.key,
        body: "[]",
        headers: { "content-type": "application/json" },
      });
      expect(response.status).toBe(status);
      if (status === 202) await waitForImport(parley, anna, ((await response.json()) as Import).id);
    }
  });

  test("if it is too large, as soon as that is known, and leaves nothing", async () => {
    const announced = beginUpload("/api/v1/imports?source=chatgpt", BYTES_MAX + 100_000, "[");
    while (!announced.answer().includes("\r\n\r\n")) await Bun.sleep(5);
    expect(announced.answer()).toStartWith("HTTP/1.1 413");
    announced.socket.destroy();
    let sent = 0;
    const endless = new ReadableStream<Uint8Array>({
      pull(controller) {
        sent += 65_536;
        controller.enqueue(new Uint8Array(65_536).fill(0x20));
      },
    });
    const tooLarge = new Uint8Array(BYTES_MAX + 10).fill(0x20);
    for (const [body, headers] of [
      [endless, { "content-type": "application/json" }],
      [tooLarge, { "content-type": "application/json" }],
      [createForm("file", tooLarge), {}],
    ] as const) {
      // A client that is still sending may find its connection closed instead.
      const sender = await parley.register();
      const response = await sendFile(parley, sender, "chatgpt", body as never, headers as never).catch(() => null);
      expect(response?.status ?? 413).toBe(413);
      await waitForNothing();
    }
    expect(sent).toBeLessThan(BYTES_MAX + 64 * 1024 * 1024);
  });
});

/** Begins a request that announces `announced` bytes, and sends only a few of them. */
function beginUpload(path: string, announced: number, sent: string, account: Account = anna) {
  const { hostname, port } = new URL(parley.url);
  const socket = connect(Number(port), hostname);
  let answer = "";
  socket.on("data", (chunk) => {
    answer += chunk.toString("latin1");
  });
  socket.on("error", () => {});
  socket.write(
    `POST ${path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${account.access_token}\r\n` +
      `content-type: application/json\r\ncontent-length: ${announced}\r\n\r\n${sent}`,
  );
  return { socket, answer: () => answer };
}

test("an aborted upload leaves nothing, and blocks no one", async () => {
  const ben = await parley.register();
  const half = beginUpload("/api/v1/imports?source=chatgpt", BYTES_MAX, `[${" ".repeat(1_200_000)}`, ben);
  while ((await countLeft()) < 2) await Bun.sleep(10);
  expect((await sendFile(parley, anna, "chatgpt", "[]")).status).toBe(202);
  expect((await sendFile(parley, ben, "chatgpt", "[]")).status).toBe(409);
  half.socket.destroy();
  await waitForNothing();
  expect((await sendFile(parley, ben, "chatgpt", "[]")).status).toBe(202);
});

test("an upload whose instance died makes room for the next one", async () => {
  const cara = await parley.register();
  await parley.database`
    insert into imports (id, user_id, source, updated_at)
    values (gen_random_uuid(), ${cara.user.id}, 'claude', now() - interval '6 minutes')`;
  const response = await sendFile(parley, cara, "claude", bytesOf([createClaude("after", ["x"])]));
  expect(response.status).toBe(202);
});

test("other paths accept no more than before, and refuse a large body before it arrives", async () => {
  for (const path of [
    "/api/v1/conversations",
    "/api/v1/conversations/x/messages",
    "/v1/chat/completions",
    "/api/v1/imports?source=x",
  ]) {
    const announced = 500 * 1024 * 1024;
    const { socket, answer } = beginUpload(path, announced, " ".repeat(1_000));
    while (!answer().includes("\r\n\r\n")) await Bun.sleep(5);
    expect(answer()).toMatch(/^HTTP\/1\.1 (413|422|404)/);
    socket.destroy();
  }
});
