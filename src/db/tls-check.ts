import type { DatabaseAddress } from "../config/database-url.ts";

/** SSLRequest of the protocol: length 8, code 80877103. */
const SSL_REQUEST = new Uint8Array([0, 0, 0, 8, 4, 210, 22, 47]);
const NO = 78;
const ANSWER_TIMEOUT_MS = 2_000;
const PORT = 5432;

/**
 * Checks whether the server lacks TLS although the URL requires it: the driver's own error doesn't say so.
 * @returns a sentence, or null.
 */
export async function findMissingTls(address: DatabaseAddress): Promise<string | null> {
  const { host, port = PORT, sslmode, isTlsDirect } = address;
  if (host === undefined || isTlsDirect || ["disable", "allow", "prefer"].includes(sslmode)) return null;
  if ((await requestTls(host, port)) !== NO) return null;
  return `The server of DATABASE_URL (${host}:${port}) has no TLS, but sslmode=${sslmode} requires it; set \`ssl = on\` there, or sslmode=disable.`;
}

/** The byte that the server responds with; undefined when there is none. */
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
