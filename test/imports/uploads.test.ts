import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { connect } from "node:net";
import { gzipSync } from "node:zlib";
import { zipSync } from "fflate";
import type { Import } from "../../src/modules/imports/model.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createChatGptConversation, createClaudeConversation, uploadFile, waitForImport } from "../support/imports.ts";
import { createRestClient } from "../support/rest.ts";

const BYTES_MAX = 3 * 1024 * 1024;

let parley: TestApp;
let anna: Account;

beforeAll(async () => {
  parley = await startApp({ config: { IMPORT_BYTES_MAX: String(BYTES_MAX) } });
  anna = await parley.register();
});
afterAll(() => parley.stop());

const createChat = (id: string, text = "Question") => createChatGptConversation(id, { [text]: {}, Answer: {} });
const encodeJson = (file: unknown) => new TextEncoder().encode(JSON.stringify(file));

async function importBody(body: NonNullable<RequestInit["body"]>, headers: Record<string, string>): Promise<Import> {
  const response = await uploadFile(parley, anna, "chatgpt", body, headers);
  if (response.status !== 202) throw new Error(`${response.status} ${await response.text()}`);
  return waitForImport(parley, anna, ((await response.json()) as Import).id);
}

async function uploadAndGetProblem(body: NonNullable<RequestInit["body"]>, headers: Record<string, string>) {
  const response = await uploadFile(parley, anna, "chatgpt", body, headers);
  const { code, detail } = (await response.json()) as { code: string; detail: string };
  return { status: response.status, code, detail };
}

const createForm = (field: string, bytes: Uint8Array, name = "conversations.json") => {
  const form = new FormData();
  form.append("note", "hello");
  form.append(field, new Blob([bytes.slice()]), name);
  return form;
};

/** Counts the database rows of unfinished uploads. */
const countUploadRows = async () =>
  (
    await parley.database`select id from imports where status = 'uploading' union all select import_id from import_pieces`
  ).length;

async function waitForCleanup(): Promise<void> {
  while ((await countUploadRows()) > 0) await Bun.sleep(20);
}

describe("a file is accepted", () => {
  test("as a form field", async () => {
    const file = encodeJson([createChat("form", "ü".repeat(100_000))]);
    expect(await importBody(createForm("file", file) as never, {})).toMatchObject({
      status: "done",
      imported: 1,
      bytes: file.length,
    });
  });

  test("if it is larger than a stored piece", async () => {
    const file = encodeJson(
      Array.from({ length: 40 }, (_, n) => createChat(`pieces-${n}`, `${n} ${"x".repeat(9_500)}`)),
    );
    expect(file.length).toBeGreaterThan(2 * 1024 * 1024);
    expect(await importBody(file, { "content-type": "application/json" })).toMatchObject({
      imported: 40,
      skipped: 0,
      bytes: file.length,
    });
  });

  test("as a stream without a length", async () => {
    const file = encodeJson([createChat("stream")]);
    const stream = new ReadableStream<Uint8Array>({
      async start(controller) {
        for (const chunk of [file.subarray(0, 10), file.subarray(10, 11), file.subarray(11)]) {
          controller.enqueue(chunk);
          await Bun.sleep(5);
        }
        controller.close();
      },
    });
    expect(await importBody(stream, { "content-type": "application/json" })).toMatchObject({ imported: 1 });
  });

  test("as a ZIP archive with several conversation files and other files", async () => {
    const zip = zipSync({
      "export/conversations-000.json": encodeJson([createChat("zip-1")]),
      "export/user.json": encodeJson({ id: "x" }),
      "export/conversations-001.json": encodeJson([createChat("zip-2"), createChat("zip-3")]),
      "export/image.png": new Uint8Array(100_000),
    });
    expect(await importBody(zip, { "content-type": "application/zip" })).toMatchObject({
      imported: 3,
      skipped: 0,
      status: "done",
    });
    expect(await importBody(createForm("file", zip, "export.zip") as never, {})).toMatchObject({
      imported: 0,
      skipped: 3,
    });
    const uncompressedZip = zipSync({ "conversations.json": encodeJson([createChat("zip-4")]) }, { level: 0 });
    expect(await importBody(uncompressedZip, { "content-type": "application/octet-stream" })).toMatchObject({
      imported: 1,
    });
  });
});

describe("a ZIP archive fails", () => {
  const zipHeaders = { "content-type": "application/zip" };

  test("if it decompresses to more than a file's maximum size", async () => {
    const zipBomb = zipSync(
      { "conversations.json": new TextEncoder().encode(`[${" ".repeat(20 * 1024 * 1024)}]`) },
      { level: 9 },
    );
    expect(zipBomb.length).toBeLessThan(100_000);
    expect(await importBody(zipBomb, zipHeaders)).toMatchObject({ status: "failed", error: { code: "too_large" } });
  });

  test("if it has no conversations, or is corrupt", async () => {
    expect(await importBody(zipSync({ "chat.html": encodeJson("x") }), zipHeaders)).toMatchObject({
      status: "failed",
      error: { code: "invalid", detail: "The ZIP archive contains no conversations.json." },
    });
    const archive = zipSync(
      { "conversations.json": encodeJson([createChat("broken", "y".repeat(50_000))]) },
      { level: 6 },
    );
    const corruptArchive = archive.slice();
    corruptArchive.fill(0xff, 60, 120);
    const result = await importBody(corruptArchive, zipHeaders);
    expect(result).toMatchObject({ status: "failed", imported: 0 });
    expect(await importBody(archive.subarray(0, 80), zipHeaders)).toMatchObject({ status: "failed", imported: 0 });
  });
});

describe("an upload is rejected", () => {
  test("if it has an unsupported format or encoding, is empty, or has no file", async () => {
    const jsonHeaders = { "content-type": "application/json" };
    expect(await uploadAndGetProblem("x", { "content-type": "text/csv" })).toMatchObject({ status: 415 });
    expect(await uploadAndGetProblem(gzipSync("[]"), { ...jsonHeaders, "content-encoding": "gzip" })).toMatchObject({
      status: 415,
    });
    expect(await uploadAndGetProblem("", jsonHeaders)).toMatchObject({ status: 400 });
    expect(await uploadAndGetProblem(createForm("other", encodeJson([])) as never, {})).toMatchObject({
      status: 422,
      code: "invalid",
    });
    expect(await uploadAndGetProblem("x", { "content-type": "multipart/form-data" })).toMatchObject({ status: 400 });
    expect(
      await uploadAndGetProblem('--b\r\ncontent-disposition: form-data; name="file"; filename="f"\r\n\r\n[1,', {
        "content-type": "multipart/form-data; boundary=b",
      }),
    ).toMatchObject({ status: 400 });
    expect(await countUploadRows()).toBe(0);
  });

  test("if its source is unknown, its credentials are missing, or its API key lacks a scope", async () => {
    for (const source of ["", "gemini"]) {
      const response = await uploadFile(parley, anna, source, "[]");
      expect(response.status).toBe(422);
    }
    expect((await parley.fetch("/api/v1/imports?source=chatgpt", { method: "POST", body: "[]" })).status).toBe(401);
    for (const [scopes, status] of [
      [["conversations:write"], 403],
      [["messages:write"], 403],
      [["conversations:write", "messages:write"], 202],
    ] as const) {
      const { body } = await createRestClient(parley, anna).request<{ key: string }>("POST", "/api-keys", {
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

  test("as soon as its size exceeds the maximum, and leaves no rows", async () => {
    const upload = startUpload("/api/v1/imports?source=chatgpt", BYTES_MAX + 100_000, "[");
    while (!upload.getResponse().includes("\r\n\r\n")) await Bun.sleep(5);
    expect(upload.getResponse()).toStartWith("HTTP/1.1 413");
    upload.socket.destroy();
    let sentBytes = 0;
    const endlessBody = new ReadableStream<Uint8Array>({
      pull(controller) {
        sentBytes += 65_536;
        controller.enqueue(new Uint8Array(65_536).fill(0x20));
      },
    });
    const tooLargeBody = new Uint8Array(BYTES_MAX + 10).fill(0x20);
    for (const [body, headers] of [
      [endlessBody, { "content-type": "application/json" }],
      [tooLargeBody, { "content-type": "application/json" }],
      [createForm("file", tooLargeBody), {}],
    ] as const) {
      // The connection may be closed while the client is still sending.
      const sender = await parley.register();
      const response = await uploadFile(parley, sender, "chatgpt", body as never, headers as never).catch(() => null);
      expect(response?.status ?? 413).toBe(413);
      await waitForCleanup();
    }
    expect(sentBytes).toBeLessThan(BYTES_MAX + 64 * 1024 * 1024);
  });
});

/** Starts a request with this Content-Length, but sends only the first bytes of the body. */
function startUpload(path: string, contentLength: number, body: string, account: Account = anna) {
  const { hostname, port } = new URL(parley.url);
  const socket = connect(Number(port), hostname);
  let response = "";
  socket.on("data", (chunk) => {
    response += chunk.toString("latin1");
  });
  socket.on("error", () => {});
  socket.write(
    `POST ${path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${account.access_token}\r\n` +
      `content-type: application/json\r\ncontent-length: ${contentLength}\r\n\r\n${body}`,
  );
  return { socket, getResponse: () => response };
}

test("an aborted upload blocks only the same user's next upload, and only until its rows are deleted", async () => {
  const ben = await parley.register();
  const upload = startUpload("/api/v1/imports?source=chatgpt", BYTES_MAX, `[${" ".repeat(1_200_000)}`, ben);
  while ((await countUploadRows()) < 2) await Bun.sleep(10);
  expect((await uploadFile(parley, anna, "chatgpt", "[]")).status).toBe(202);
  expect((await uploadFile(parley, ben, "chatgpt", "[]")).status).toBe(409);
  upload.socket.destroy();
  await waitForCleanup();
  expect((await uploadFile(parley, ben, "chatgpt", "[]")).status).toBe(202);
});

test("an upload abandoned by a crashed instance doesn't block the user's next upload", async () => {
  const cara = await parley.register();
  await parley.database`
    insert into imports (id, user_id, source, updated_at)
    values (gen_random_uuid(), ${cara.user.id}, 'claude', now() - interval '6 minutes')`;
  const response = await uploadFile(parley, cara, "claude", encodeJson([createClaudeConversation("after", ["x"])]));
  expect(response.status).toBe(202);
});

test("paths other than imports reject a large body before it arrives", async () => {
  for (const path of [
    "/api/v1/conversations",
    "/api/v1/conversations/x/messages",
    "/v1/chat/completions",
    "/api/v1/imports?source=x",
  ]) {
    const contentLength = 500 * 1024 * 1024;
    const { socket, getResponse } = startUpload(path, contentLength, " ".repeat(1_000));
    while (!getResponse().includes("\r\n\r\n")) await Bun.sleep(5);
    expect(getResponse()).toMatch(/^HTTP\/1\.1 (413|422|404)/);
    socket.destroy();
  }
});
