import type { DatabaseAddress } from "../config/database-url.ts";

/** The protocol's SSLRequest message: length 8, code 80877103. */
const SSL_REQUEST = new Uint8Array([0, 0, 0, 8, 4, 210, 22, 47]);
/** The server's response `N`, which means that it doesn't support TLS. */
const TLS_REJECTED_BYTE = 78;
const RESPONSE_TIMEOUT_MS = 2_000;
const DEFAULT_PORT = 5432;

/**
 * Checks whether the URL requires TLS but the server doesn't support it. The driver's error doesn't say so.
 * @returns a sentence that explains the problem, or null if there is none.
 */
export async function findMissingTls(address: DatabaseAddress): Promise<string | null> {
  const { host, port = DEFAULT_PORT, sslmode, isTlsDirect } = address;
  if (host === undefined || isTlsDirect || ["disable", "allow", "prefer"].includes(sslmode)) return null;
  if ((await requestTls(host, port)) !== TLS_REJECTED_BYTE) return null;
  return `The server in DATABASE_URL (${host}:${port}) has no TLS, but sslmode=${sslmode} requires it; set \`ssl = on\` there, or sslmode=disable.`;
}

/** Requests TLS. @returns the byte with which the server responds, or undefined if it doesn't respond. */
async function requestTls(hostname: string, port: number): Promise<number | undefined> {
  const { promise, resolve } = Promise.withResolvers<number | undefined>();
  const timer = setTimeout(resolve, RESPONSE_TIMEOUT_MS);
  const connecting = Bun.connect({
    hostname,
    port,
    socket: {
      open: (socket) => void socket.write(SSL_REQUEST),
      data: (_socket, bytes) => resolve(bytes[0]),
      close: () => resolve(undefined),
      error: () => resolve(undefined),
      connectError: () => resolve(undefined),
    },
  }).catch(() => undefined);
  const response = await promise;
  clearTimeout(timer);
  void connecting.then((socket) => socket?.end());
  return response;
}
