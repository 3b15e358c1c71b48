import { createHash, createHmac } from "node:crypto";

/** Called for each request. Returns a response to send instead of the server's own, or undefined to send its own. */
type Intercept = (request: { method: string; key: string; query: URLSearchParams }) => Response | undefined;

const REGION = "eu-test-1";
const credentials = { accessKeyId: "AKIATEST", secretAccessKey: "the/secret+key" };

/**
 * Starts a fake S3 server. It verifies signatures (version 4), and supports single and multipart uploads, ranges,
 * paginated lists and deletions. As in S3, every part of an upload except the last must be at least 5 MiB.
 */
export function startFakeS3(bucket = "backups") {
  const objects = new Map<string, Buffer>();
  const uploads = new Map<string, { key: string; parts: Map<number, Buffer> }>();
  const requests: string[] = [];
  const state: { intercept: Intercept; delayMs: number; pageKeysMax: number } = {
    intercept: () => undefined,
    delayMs: 0,
    pageKeysMax: 1_000,
  };

  async function handleRequest(request: Request): Promise<Response> {
    const url = new URL(request.url);
    const key = decodeURIComponent(url.pathname).slice(bucket.length + 2);
    const query = url.searchParams;
    requests.push(`${request.method} ${url.pathname}${url.search}`);
    const body = Buffer.from(await request.arrayBuffer());
    if (state.delayMs > 0) await Bun.sleep(state.delayMs);
    const intercepted = state.intercept({ method: request.method, key, query });
    if (intercepted) return intercepted;
    if (createAuthorization(request, url, body) !== request.headers.get("authorization"))
      return createErrorResponse(403, "SignatureDoesNotMatch");
    if (!`${url.pathname}/`.startsWith(`/${bucket}/`)) return createErrorResponse(404, "NoSuchBucket");
    const uploadId = query.get("uploadId");
    if (uploadId !== null) return handleUpload(request.method, uploadId, Number(query.get("partNumber")), body);
    if (request.method === "POST" && query.has("uploads")) {
      const id = `upload-${uploads.size + 1}-${requests.length}`;
      uploads.set(id, { key, parts: new Map() });
      return createXmlResponse(
        `<InitiateMultipartUploadResult><UploadId>${id}</UploadId></InitiateMultipartUploadResult>`,
      );
    }
    return handleObject(request, key, query, body);
  }

  function handleUpload(method: string, id: string, part: number, body: Buffer): Response {
    const upload = uploads.get(id);
    if (!upload) return createErrorResponse(404, "NoSuchUpload");
    if (method === "PUT") {
      upload.parts.set(part, body);
      return new Response(null, { headers: { etag: createEtag(body) } });
    }
    uploads.delete(id);
    if (method === "DELETE") return new Response(null, { status: 204 });
    const partNumbers = [...body.toString().matchAll(/<PartNumber>(\d+)<\/PartNumber>/g)].map(([, number]) =>
      Number(number),
    );
    const parts = partNumbers.map((number) => upload.parts.get(number));
    if (parts.slice(0, -1).some((part) => (part?.length ?? 0) < 5 * 1024 * 1024))
      return createErrorResponse(400, "EntityTooSmall");
    const object = Buffer.concat(parts.map((part) => part ?? Buffer.alloc(0)));
    objects.set(upload.key, object);
    return createXmlResponse(
      `<CompleteMultipartUploadResult><ETag>${createEtag(object)}</ETag></CompleteMultipartUploadResult>`,
    );
  }

  function handleObject(request: Request, key: string, query: URLSearchParams, body: Buffer): Response {
    if (request.method === "GET" && key === "") return listObjects(query);
    if (request.method === "PUT") {
      objects.set(key, body);
      return new Response(null, { headers: { etag: createEtag(body) } });
    }
    if (request.method === "DELETE") {
      objects.delete(key);
      return new Response(null, { status: 204 });
    }
    const object = objects.get(key);
    if (!object) return createErrorResponse(404, "NoSuchKey");
    const headers = { etag: createEtag(object), "last-modified": new Date().toUTCString() };
    if (request.method === "HEAD")
      return new Response(null, { headers: { ...headers, "content-length": String(object.length) } });
    const [, from = "0", to] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.get("range") ?? "") ?? [];
    const range = object.subarray(Number(from), to ? Number(to) + 1 : undefined);
    return new Response(new Uint8Array(range), { status: range.length < object.length ? 206 : 200, headers });
  }

  function listObjects(query: URLSearchParams): Response {
    const previousPageLastKey = query.get("continuation-token") ?? "";
    const keys = [...objects.keys()].filter((key) => key.startsWith(query.get("prefix") ?? "")).sort();
    const remainingKeys = keys.filter((key) => key > previousPageLastKey);
    const page = remainingKeys.slice(0, Math.min(state.pageKeysMax, Number(query.get("max-keys") ?? 1_000)));
    const isTruncated = remainingKeys.length > page.length;
    return createXmlResponse(
      `<ListBucketResult><Name>${bucket}</Name><IsTruncated>${isTruncated}</IsTruncated>` +
        `${isTruncated ? `<NextContinuationToken>${page.at(-1)}</NextContinuationToken>` : ""}` +
        `${page.map((key) => `<Contents><Key>${key}</Key><Size>${objects.get(key)?.length}</Size></Contents>`).join("")}` +
        "</ListBucketResult>",
    );
  }

  const server = Bun.serve({ port: 0, hostname: "127.0.0.1", maxRequestBodySize: 1e9, fetch: handleRequest });
  return {
    ...credentials,
    endpoint: `http://127.0.0.1:${server.port}`,
    bucket,
    region: REGION,
    objects,
    /** The multipart uploads in progress. */
    uploads,
    requests,
    state,
    stop: () => server.stop(true),
  };
}

const createEtag = (bytes: Buffer): string => `"${createHash("md5").update(bytes).digest("hex")}"`;
const hashSha256 = (text: string | Buffer): string => createHash("sha256").update(text).digest("hex");
const createHmacSha256 = (key: string | Buffer, text: string): Buffer =>
  createHmac("sha256", key).update(text).digest();
const createXmlResponse = (text: string, status = 200): Response =>
  new Response(`<?xml version="1.0" encoding="UTF-8"?>${text}`, {
    status,
    headers: { "content-type": "application/xml" },
  });
const createErrorResponse = (status: number, code: string): Response =>
  createXmlResponse(`<Error><Code>${code}</Code><Message>${code}, from the fake S3.</Message></Error>`, status);

/**
 * Creates the `Authorization` header that a request should have (AWS Signature Version 4). Returns null if the body hash,
 * region or service in the request is wrong.
 */
function createAuthorization(request: Request, url: URL, body: Buffer): string | null {
  const authorization = request.headers.get("authorization") ?? "";
  const [, scope = "", names = ""] =
    /^AWS4-HMAC-SHA256 Credential=[^/]+\/([^,]+), ?SignedHeaders=([^,]+), ?Signature=/.exec(authorization) ?? [];
  const payloadHash = request.headers.get("x-amz-content-sha256") ?? "";
  if (payloadHash !== "UNSIGNED-PAYLOAD" && payloadHash !== hashSha256(body)) return null;
  const encodeUri = (text: string) =>
    encodeURIComponent(text).replace(/[!'()*]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`);
  const query = [...url.searchParams]
    .map(([name, value]) => `${encodeUri(name)}=${encodeUri(value)}`)
    .sort()
    .join("&");
  const headers = names.split(";").map((name) => `${name}:${(request.headers.get(name) ?? "").trim()}\n`);
  const path = decodeURIComponent(url.pathname).split("/").map(encodeUri).join("/");
  const canonicalRequest = [request.method, path, query, headers.join(""), names, payloadHash].join("\n");
  const [day = "", region = "", service = ""] = scope.split("/");
  if (region !== REGION || service !== "s3") return null;
  const stringToSign = [
    "AWS4-HMAC-SHA256",
    request.headers.get("x-amz-date"),
    scope,
    hashSha256(canonicalRequest),
  ].join("\n");
  const signingKey = [day, region, service, "aws4_request"].reduce<string | Buffer>(
    (key, text) => createHmacSha256(key, text),
    `AWS4${credentials.secretAccessKey}`,
  );
  const signature = createHmacSha256(signingKey, stringToSign).toString("hex");
  const separator = authorization.includes(", ") ? ", " : ",";
  return [
    `AWS4-HMAC-SHA256 Credential=${credentials.accessKeyId}/${scope}`,
    `SignedHeaders=${names}`,
    `Signature=${signature}`,
  ].join(separator);
}
