import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { Elysia } from "elysia";
import { createAuthenticationPlugin } from "../../src/http/authenticate.ts";
import { createErrorHandler, createMethodFinder } from "../../src/http/error-handler.ts";
import { mount } from "../../src/http/mount.ts";
import { createReadCache, DOCUMENTS_TAG } from "../../src/http/read-cache.ts";
import { requestIdPlugin } from "../../src/http/request-id.ts";
import { createSecurityHeadersPlugin } from "../../src/http/security-headers.ts";
import { createId } from "../../src/lib/id.ts";
import type { Log } from "../../src/lib/log.ts";
import { createMetrics } from "../../src/lib/metrics.ts";
import { Problem } from "../../src/lib/problem.ts";
import type { IndexerTimes } from "../../src/modules/documents/indexer.ts";
import { createDocumentRoutes } from "../../src/modules/documents/routes.ts";
import { createDocumentService } from "../../src/modules/documents/service.ts";
import { silentLog } from "../support/log.ts";
import { createTestDatabase } from "../support/postgres.ts";

/** The interval between scans for changed files. */
export const TEST_SCAN_INTERVAL_MS = 50;

const TOKEN = "the-token";
const caller = {
  user: {
    id: createId(),
    email: "ada@example.com",
    display_name: "Ada",
    role: "user" as const,
    created_at: new Date(0),
  },
  credentialId: createId(),
  scopes: null,
  expiresAtMs: Date.now() + 3_600_000,
  ipAddress: null,
};

/** Creates a folder with files. `files` maps their paths to their contents. */
export function createFolder(files: Record<string, string | Uint8Array> = {}) {
  const folder = mkdtempSync(join(tmpdir(), "parley-documents-"));
  const write = (path: string, content: string | Uint8Array) => {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), content);
  };
  for (const [path, content] of Object.entries(files)) write(path, content);
  return { path: folder, write, remove: () => rmSync(folder, { recursive: true, force: true }) };
}

type SharedDatabase = Awaited<ReturnType<typeof createTestDatabase>>;
type StartOptions = { log?: Log; indexerTimes?: IndexerTimes };

/** Starts a server with the documents module. It indexes `documentsDir`, or Parley's guides if `documentsDir` is omitted. */
export async function startDocuments(
  documentsDir?: string,
  shared?: SharedDatabase,
  { log, indexerTimes }: StartOptions = {},
) {
  const { database } = shared ?? (await createTestDatabase(4));
  const metrics = createMetrics({ version: "test", commit: "test" });
  const readCache = createReadCache({ metrics, isReceivingChanges: () => shared === undefined });
  const documents = createDocumentService({
    database,
    config: { DOCUMENTS_DIR: documentsDir },
    scanIntervalMs: TEST_SCAN_INTERVAL_MS,
    ...(indexerTimes && { indexerTimes }),
    log: log ?? silentLog,
    onScanned: () => readCache.invalidate(DOCUMENTS_TAG),
  });
  await documents.rescan();
  const authenticate = createAuthenticationPlugin({
    async identify(token) {
      if (token !== TOKEN) throw new Problem("unauthorized", "No.");
      return caller;
    },
    getClientAddress: () => null,
  });
  const routes = createDocumentRoutes({ documents, reads: readCache });
  const app = new Elysia({ normalize: false, aot: true })
    .onError(createErrorHandler({ log: silentLog, findMethods: createMethodFinder(routes) }))
    .use(requestIdPlugin)
    .use(createSecurityHeadersPlugin({}))
    .use(mount(routes, [authenticate]))
    .listen({ port: 0, hostname: "127.0.0.1" });
  const port = app.server?.port ?? 0;

  async function get(path: string, headers: Record<string, string> = {}): Promise<Response> {
    return fetch(`http://127.0.0.1:${port}/api/v1/documents${path}`, {
      headers: { authorization: `Bearer ${TOKEN}`, ...headers },
    });
  }

  return {
    documents,
    database,
    get,
    async list(query: string): Promise<ListBody> {
      const response = await get(query);
      if (response.status !== 200) throw new Error(`${response.status} ${await response.text()}`);
      return (await response.json()) as ListBody;
    },
    /** Requests a path without normalizing it, which `fetch` would do. */
    async getRaw(path: string): Promise<{ status: number; body: string }> {
      const response = await sendRaw(port, `GET /api/v1/documents/${path} HTTP/1.1`);
      return { status: Number(response.slice(9, 12)), body: response.slice(response.indexOf("\r\n\r\n") + 4) };
    },
    async stop() {
      await app.stop(true);
      await documents.stop();
      if (!shared) await database.end();
    },
  };
}

type DocumentItem = {
  path: string;
  title: string;
  size: number;
  updated_at: string;
  headings: { level: number; text: string; slug: string }[];
  snippet?: string;
  rank?: number;
};
type ListBody = { data: DocumentItem[]; next_cursor: string | null };

function sendRaw(port: number, line: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const lines = [line, "host: localhost", `authorization: Bearer ${TOKEN}`, "connection: close", "", ""];
    const socket = connect(port, "127.0.0.1", () => socket.write(Buffer.from(lines.join("\r\n"), "latin1")));
    let response = "";
    socket.on("data", (chunk) => {
      response += chunk.toString();
    });
    socket.on("close", () => resolve(response));
    socket.on("error", reject);
  });
}
