import type { Server } from "bun";
import type { App } from "../app.ts";
import type { Tls } from "../config/tls.ts";
import type { Config } from "../config.ts";
import { checkPortIsFree, explainListenError, removeHostBrackets } from "./address.ts";
import { CommandError } from "./command.ts";

/** Idle timeout of HTTP connections. Streams disable it, because they send heartbeats. */
const HTTP_IDLE_TIMEOUT_S = 30;
/**
 * Disables Bun's body limit, which closes the connection with an empty response. Parley's own limit of 1 MiB returns an error.
 * Bodies larger than that aren't buffered, because Bun reads a body only as fast as Parley does.
 */
const REQUEST_BYTES_MAX = Number.MAX_SAFE_INTEGER;

/**
 * The TLS 1.2 ciphers with forward secrecy (ECDHE) and authenticated encryption (AEAD). By default, Bun also offers CBC and
 * static RSA. All TLS 1.3 ciphers have both properties.
 */
const TLS_1_2_CIPHERS = [
  "ECDHE-ECDSA-AES128-GCM-SHA256",
  "ECDHE-RSA-AES128-GCM-SHA256",
  "ECDHE-ECDSA-AES256-GCM-SHA384",
  "ECDHE-RSA-AES256-GCM-SHA384",
  "ECDHE-ECDSA-CHACHA20-POLY1305",
  "ECDHE-RSA-CHACHA20-POLY1305",
].join(":");

/** The server counts as idle after this many consecutive successful checks. */
const IDLE_CHECKS = 4;
const IDLE_POLL_MS = 25;

type Handlers = Pick<App, "app" | "websocket">;

/** The open port and the servers behind it. */
export type PortListener = {
  readonly port: number;
  /** Sends text to the sockets subscribed to a topic, on the current server and on previous ones. */
  publish(topic: string, text: string): void;
  /**
   * Uses a new certificate for new connections; existing sockets and requests are not affected.
   * @throws CommandError if the certificate can't be used; the current one stays in use.
   */
  useTls(tls: Tls): void;
  /**
   * Accepts no new connections, and waits until no request is in progress and all connections are closed. If `isForced` is true, all
   * connections are closed immediately.
   */
  stop(isForced: boolean): Promise<void>;
};

/**
 * Opens the port. Bun can't replace a server's certificate, so `useTls` starts a new server on the same port. Both servers listen for
 * a moment (`SO_REUSEPORT`). After that, the previous server only serves its existing connections.
 * @throws CommandError with a remedy if the port can't be opened.
 */
export function listen(parley: Handlers, config: Config, tls: Tls | undefined): PortListener {
  try {
    if (tls) checkPortIsFree(config);
    let currentServer = startServer(parley, config, config.PORT, tls);
    const port = currentServer.port ?? config.PORT;
    const servers = new Set([currentServer]);
    return {
      port,
      publish(topic, text) {
        for (const server of servers) server.publish(topic, text);
      },
      useTls(newTls) {
        const previousServer = currentServer;
        try {
          currentServer = startServer(parley, config, port, newTls);
        } catch (error) {
          throw explainStartError(error, config);
        }
        servers.add(currentServer);
        void previousServer.stop(false).then(() => servers.delete(previousServer));
      },
      async stop(isForced) {
        const stopAll = (shouldForce: boolean) => Promise.all([...servers].map((server) => server.stop(shouldForce)));
        if (isForced) return void (await stopAll(true));
        await Promise.race([stopAll(false), waitUntilIdle(servers)]);
        // Idle connections can remain open, for example if a body was rejected before all of it arrived.
        await stopAll(true);
      },
    };
  } catch (error) {
    throw explainStartError(error, config);
  }
}

function startServer(
  { app, websocket }: Handlers,
  config: Config,
  port: number,
  tls: Tls | undefined,
): Server<unknown> {
  const exitListeners = new Set(process.listeners("beforeExit"));
  app.listen({
    port,
    hostname: removeHostBrackets(config),
    // `useTls` needs this option. Without TLS it is disabled, because it allows a second Parley to start on the same port by mistake.
    reusePort: tls !== undefined,
    development: false,
    idleTimeout: HTTP_IDLE_TIMEOUT_S,
    maxRequestBodySize: REQUEST_BYTES_MAX,
    websocket,
    ...(tls && { tls: { ...tls, ciphers: TLS_1_2_CIPHERS }, http2: config.HTTP2 === "on" }),
  });
  // Elysia adds a listener that stops the server when the process exits. Parley stops servers itself.
  for (const listener of process.listeners("beforeExit"))
    if (!exitListeners.has(listener)) process.off("beforeExit", listener);
  if (!app.server) throw new CommandError("The server didn't start.");
  return app.server;
}

/** Waits until no request is in progress and no socket is open. */
async function waitUntilIdle(servers: Iterable<Server<unknown>>): Promise<void> {
  const isIdle = () => [...servers].every((server) => server.pendingRequests + server.pendingWebSockets === 0);
  // One check isn't enough, because a new connection may not have sent its request yet.
  for (let idleChecks = 0; idleChecks < IDLE_CHECKS; idleChecks = isIdle() ? idleChecks + 1 : 0)
    await Bun.sleep(IDLE_POLL_MS);
}

/** Returns a CommandError if the address or the certificate caused the error, otherwise the error itself. */
function explainStartError(error: unknown, config: Config): unknown {
  if (error instanceof Error && /PEM|SSL|BoringSSL|key values mismatch/i.test(error.message))
    return new CommandError("The certificate in TLS_CERT_FILE can't be used with the key in TLS_KEY_FILE.");
  return explainListenError(error, config);
}
