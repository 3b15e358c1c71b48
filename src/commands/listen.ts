import type { Server } from "bun";
import type { App } from "../app.ts";
import type { Tls } from "../config/tls.ts";
import type { Config } from "../config.ts";
import { checkPortIsFree, explainListenError, hostOf } from "./address.ts";
import { CommandError } from "./command.ts";

/** The idle timeout of HTTP connections. Streams disable it, because they send heartbeats. */
const HTTP_IDLE_TIMEOUT_S = 30;
/**
 * Disables Bun's body limit, which closes the connection with an empty response. Parley's own limit of 1 MiB returns an error.
 * Nothing beyond it is buffered, because Bun reads a body only as fast as Parley does.
 */
const REQUEST_BYTES_MAX = Number.MAX_SAFE_INTEGER;

/**
 * The TLS 1.2 ciphers with forward secrecy (ECDHE) and authenticated encryption (AEAD). By default, Bun also offers CBC and
 * static RSA. TLS 1.3 needs no list, because all its ciphers have both properties.
 */
const TLS_1_2_CIPHERS = [
  "ECDHE-ECDSA-AES128-GCM-SHA256",
  "ECDHE-RSA-AES128-GCM-SHA256",
  "ECDHE-ECDSA-AES256-GCM-SHA384",
  "ECDHE-RSA-AES256-GCM-SHA384",
  "ECDHE-ECDSA-CHACHA20-POLY1305",
  "ECDHE-RSA-CHACHA20-POLY1305",
].join(":");

/** The number of consecutive checks after which the server counts as idle. */
const IDLE_CHECKS = 4;
const IDLE_POLL_MS = 25;

type Listening = Pick<App, "app" | "websocket">;

/** The open port and the servers behind it. */
export type PortListener = {
  readonly port: number;
  /** Sends text to the sockets subscribed to a topic, on the current server and on previous ones. */
  publish(topic: string, text: string): void;
  /**
   * Uses another certificate for new connections; existing sockets and requests are not affected.
   * @throws CommandError if the certificate can't be used; the current one then stays.
   */
  useTls(tls: Tls): void;
  /**
   * Refuses new connections, and waits until all responses have ended and all connections are closed. With `isForced`, closes
   * everything immediately.
   */
  stop(isForced: boolean): Promise<void>;
};

/**
 * Opens the port. Bun can't replace a server's certificate, so a new server takes over the port: both listen for a moment
 * (`SO_REUSEPORT`), then the old one only serves its existing connections.
 * @throws CommandError with a remedy if the port can't be opened.
 */
export function listen(parley: Listening, config: Config, tls: Tls | undefined): PortListener {
  try {
    if (tls) checkPortIsFree(config);
    let current = open(parley, config, config.PORT, tls);
    const port = current.port ?? config.PORT;
    const servers = new Set([current]);
    return {
      port,
      publish(topic, text) {
        for (const server of servers) server.publish(topic, text);
      },
      useTls(next) {
        const old = current;
        try {
          current = open(parley, config, port, next);
        } catch (error) {
          throw explain(error, config);
        }
        servers.add(current);
        void old.stop(false).then(() => servers.delete(old));
      },
      async stop(isForced) {
        const stopAll = (isForced: boolean) => Promise.all([...servers].map((server) => server.stop(isForced)));
        if (isForced) return void (await stopAll(true));
        await Promise.race([stopAll(false), waitUntilIdle(servers)]);
        // Any connections that are still open serve nothing, for example after a body was refused before all of it arrived.
        await stopAll(true);
      },
    };
  } catch (error) {
    throw explain(error, config);
  }
}

function open({ app, websocket }: Listening, config: Config, port: number, tls: Tls | undefined): Server<unknown> {
  const exitListeners = new Set(process.listeners("beforeExit"));
  app.listen({
    port,
    hostname: hostOf(config),
    // Only if needed: otherwise a second Parley could start on the same port and receive half of the connections.
    reusePort: tls !== undefined,
    development: false,
    idleTimeout: HTTP_IDLE_TIMEOUT_S,
    maxRequestBodySize: REQUEST_BYTES_MAX,
    websocket,
    ...(tls && { tls: { ...tls, ciphers: TLS_1_2_CIPHERS }, http2: config.HTTP2 === "on" }),
  });
  // For each server, Elysia adds a listener that stops it when the process exits. Parley stops servers itself.
  for (const listener of process.listeners("beforeExit"))
    if (!exitListeners.has(listener)) process.off("beforeExit", listener);
  if (!app.server) throw new CommandError("The server didn't start.");
  return app.server;
}

/** Waits until no request is in progress and no socket is open. */
async function waitUntilIdle(servers: Iterable<Server<unknown>>): Promise<void> {
  const isIdle = () => [...servers].every((server) => server.pendingRequests + server.pendingWebSockets === 0);
  // A new connection may not have sent its request yet.
  for (let idleChecks = 0; idleChecks < IDLE_CHECKS; idleChecks = isIdle() ? idleChecks + 1 : 0)
    await Bun.sleep(IDLE_POLL_MS);
}

/** Returns a CommandError if the address or the certificate caused the error, otherwise the error itself. */
function explain(error: unknown, config: Config): unknown {
  if (error instanceof Error && /PEM|SSL|BoringSSL|key values mismatch/i.test(error.message))
    return new CommandError("The certificate in TLS_CERT_FILE can't be used with the key in TLS_KEY_FILE.");
  return explainListenError(error, config);
}
