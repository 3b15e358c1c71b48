import type { DatabaseAddress } from "../config/database-url.ts";

/** The protocol's SSLRequest message: length 8, code 80877103. */
const SSL_REQUEST = new Uint8Array([0, 0, 0, 8, 4, 210, 22, 47]);
const NO = 78;
const ANSWER_TIMEOUT_MS = 2_000;
const PORT = 5432;

/**
 * Checks whether the server doesn't support TLS although the URL requires it, because the driver's error doesn't say so.
 * @returns a sentence that explains it; null if that isn't the case.
 */
export async function findMissingTls(address: DatabaseAddress): Promise<string | null> {
  const { host, port = PORT, sslmode, isTlsDirect } = address;
  if (host === undefined || isTlsDirect || ["disable", "allow", "prefer"].includes(sslmode)) return null;
  if ((await requestTls(host, port)) !== NO) return null;
  return `The server of DATABASE_URL (${host}:${port}) has no TLS, but sslmode=${sslmode} requires it; set \`ssl = on\` there, or sslmode=disable.`;
}

/** Asks the server for TLS. @returns the byte with which it responds; undefined if it doesn't. */
async function requestTls(hostname: string, port: number): Promise<number | undefined> {
  const { promise, resolve } = Promise.withResolvers<number | undefined>();
  const timer = setTimeout(resolve, ANSWER_TIMEOUT_MS);
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
  const answer = await promise;
  clearTimeout(timer);
  void connecting.then((socket) => socket?.end());
  return answer;
}
