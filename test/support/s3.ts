import { createHash, createHmac } from "node:crypto";

/** A response that a test returns instead; called for each request. */
type Refuse = (request: { method: string; key: string; query: URLSearchParams }) => Response | undefined;

const REGION = "eu-test-1";
const credentials = { accessKeyId: "AKIATEST", secretAccessKey: "the/secret+key" };

/**
 * A fake S3 that verifies signatures (version 4): single and multipart uploads, ranges, paged lists, deletions. Like
 * the real one, it accepts a part below 5 MiB only as the last one.
 */
export function startS3(bucket = "backups") {
  const objects = new Map<string, Buffer>();
  const uploads = new Map<string, { key: string; parts: Map<number, Buffer> }>();
  const requests: string[] = [];
  const state: { refuse: Refuse; delayMs: number; pageKeys: number } = {
    refuse: () => undefined,
    delayMs: 0,
    pageKeys: 1_000,
  };

  async function answer(request: Request): Promise<Response> {
    const url = new URL(request.url);
    const key = decodeURIComponent(url.pathname).slice(bucket.length + 2);
    const query = url.searchParams;
    requests.push(`${request.method} ${url.pathname}${url.search}`);
    const body = Buffer.from(await request.arrayBuffer());
    if (state.delayMs > 0) await Bun.sleep(state.delayMs);
    const refused = state.refuse({ method: request.method, key, query });
    if (refused) return refused;
    if (sign(request, url, body) !== request.headers.get("authorization")) return fail(403, "SignatureDoesNotMatch");
    if (!`${url.pathname}/`.startsWith(`/${bucket}/`)) return fail(404, "NoSuchBucket");
    const uploadId = query.get("uploadId");
    if (uploadId !== null) return answerUpload(request.method, uploadId, Number(query.get("partNumber")), body);
    if (request.method === "POST" && query.has("uploads")) {
      const id = `upload-${uploads.size + 1}-${requests.length}`;
      uploads.set(id, { key, parts: new Map() });
      return xml(`<InitiateMultipartUploadResult><UploadId>${id}</UploadId></InitiateMultipartUploadResult>`);
    }
    return answerObject(request, key, query, body);
  }

  function answerUpload(method: string, id: string, part: number, body: Buffer): Response {
    const upload = uploads.get(id);
    if (!upload) return fail(404, "NoSuchUpload");
    if (method === "PUT") {
      upload.parts.set(part, body);
      return new Response(null, { headers: { etag: tagOf(body) } });
    }
    uploads.delete(id);
    if (method === "DELETE") return new Response(null, { status: 204 });
    const named = [...body.toString().matchAll(/<PartNumber>(\d+)<\/PartNumber>/g)].map(([, number]) => Number(number));
    const parts = named.map((number) => upload.parts.get(number));
    if (parts.slice(0, -1).some((each) => (each?.length ?? 0) < 5 * 1024 * 1024)) return fail(400, "EntityTooSmall");
    const whole = Buffer.concat(parts.map((each) => each ?? Buffer.alloc(0)));
    objects.set(upload.key, whole);
    return xml(`<CompleteMultipartUploadResult><ETag>${tagOf(whole)}</ETag></CompleteMultipartUploadResult>`);
  }

  function answerObject(request: Request, key: string, query: URLSearchParams, body: Buffer): Response {
    if (request.method === "GET" && key === "") return list(query);
    if (request.method === "PUT") {
      objects.set(key, body);
      return new Response(null, { headers: { etag: tagOf(body) } });
    }
    if (request.method === "DELETE") {
      objects.delete(key);
      return new Response(null, { status: 204 });
    }
    const found = objects.get(key);
    if (!found) return fail(404, "NoSuchKey");
    const headers = { etag: tagOf(found), "last-modified": new Date().toUTCString() };
    if (request.method === "HEAD")
      return new Response(null, { headers: { ...headers, "content-length": String(found.length) } });
    const [, from = "0", to] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.get("range") ?? "") ?? [];
    const piece = found.subarray(Number(from), to ? Number(to) + 1 : undefined);
    return new Response(new Uint8Array(piece), { status: piece.length < found.length ? 206 : 200, headers });
  }

  function list(query: URLSearchParams): Response {
    const after = query.get("continuation-token") ?? "";
    const keys = [...objects.keys()].filter((key) => key.startsWith(query.get("prefix") ?? "")).sort();
    const rest = keys.filter((key) => key > after);
    const page = rest.slice(0, Math.min(state.pageKeys, Number(query.get("max-keys") ?? 1_000)));
    const isTruncated = rest.length > page.length;
    return xml(
      `<ListBucketResult><Name>${bucket}</Name><IsTruncated>${isTruncated}</IsTruncated>` +
        `${isTruncated ? `<NextContinuationToken>${page.at(-1)}</NextContinuationToken>` : ""}` +
        `${page.map((key) => `<Contents><Key>${key}</Key><Size>${objects.get(key)?.length}</Size></Contents>`).join("")}` +
        "</ListBucketResult>",
    );
  }

  const server = Bun.serve({ port: 0, hostname: "127.0.0.1", maxRequestBodySize: 1e9, fetch: answer });
  return {
    ...credentials,
    endpoint: `http://127.0.0.1:${server.port}`,
    bucket,
    region: REGION,
    objects,
    /** Multipart uploads that are neither complete nor aborted. */
    uploads,
    requests,
    state,
    stop: () => server.stop(true),
  };
}

const tagOf = (bytes: Buffer): string => `"${createHash("md5").update(bytes).digest("hex")}"`;
const hash = (text: string | Buffer): string => createHash("sha256").update(text).digest("hex");
const mac = (key: string | Buffer, text: string): Buffer => createHmac("sha256", key).update(text).digest();
const xml = (text: string, status = 200): Response =>
  new Response(`<?xml version="1.0" encoding="UTF-8"?>${text}`, {
    status,
    headers: { "content-type": "application/xml" },
  });
const fail = (status: number, code: string): Response =>
  xml(`<Error><Code>${code}</Code><Message>${code}, from the fake S3.</Message></Error>`, status);

/** The expected header by AWS' Signature Version 4; null without one. */
function sign(request: Request, url: URL, body: Buffer): string | null {
  const given = request.headers.get("authorization") ?? "";
  const [, scope = "", names = ""] =
    /^AWS4-HMAC-SHA256 Credential=[^/]+\/([^,]+), ?SignedHeaders=([^,]+), ?Signature=/.exec(given) ?? [];
  const claimed = request.headers.get("x-amz-content-sha256") ?? "";
  if (claimed !== "UNSIGNED-PAYLOAD" && claimed !== hash(body)) return null;
  const encode = (text: string) =>
    encodeURIComponent(text).replace(/[!'()*]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`);
  const query = [...url.searchParams]
    .map(([name, value]) => `${encode(name)}=${encode(value)}`)
    .sort()
    .join("&");
  const headers = names.split(";").map((name) => `${name}:${(request.headers.get(name) ?? "").trim()}\n`);
  const path = decodeURIComponent(url.pathname).split("/").map(encode).join("/");
  const canonical = [request.method, path, query, headers.join(""), names, claimed].join("\n");
  const [day = "", region = "", service = ""] = scope.split("/");
  if (region !== REGION || service !== "s3") return null;
  const text = ["AWS4-HMAC-SHA256", request.headers.get("x-amz-date"), scope, hash(canonical)].join("\n");
  const key = ["aws4_request"].reduce(mac, mac(mac(mac(`AWS4${credentials.secretAccessKey}`, day), region), service));
  const signature = mac(key, text).toString("hex");
  const separator = given.includes(", ") ? ", " : ",";
  return [
    `AWS4-HMAC-SHA256 Credential=${credentials.accessKeyId}/${scope}`,
    `SignedHeaders=${names}`,
    `Signature=${signature}`,
  ].join(separator);
}
