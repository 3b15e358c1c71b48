import type { Server } from "bun";
import type { App } from "../app.ts";
import type { Tls } from "../config/tls.ts";
import type { Config } from "../config.ts";
import { claimPort, explainListenError, hostOf } from "./address.ts";
import { CommandError } from "./command.ts";

/** Idle timeout of HTTP connections; streams send heartbeats and lift it. */
const HTTP_IDLE_TIMEOUT_S = 30;
/**
 * Disables Bun's limit, which closes the connection with an empty response. Our own limit is 1 MiB and returns an error;
 * nothing beyond it is buffered, because Bun reads no faster than we do.
 */
const REQUEST_BYTES_MAX = Number.MAX_SAFE_INTEGER;

/**
 * For TLS 1.2, only ciphers with forward secrecy (ECDHE) and authenticated encryption (AEAD): no CBC, no static RSA, both of
 * which Bun offers by default. TLS 1.3 has only such ciphers, and no list.
 */
const TLS_1_2_CIPHERS = [
  "ECDHE-ECDSA-AES128-GCM-SHA256",
  "ECDHE-RSA-AES128-GCM-SHA256",
  "ECDHE-ECDSA-AES256-GCM-SHA384",
  "ECDHE-RSA-AES256-GCM-SHA384",
  "ECDHE-ECDSA-CHACHA20-POLY1305",
  "ECDHE-RSA-CHACHA20-POLY1305",
].join(":");

/** The server counts as idle after this many consecutive checks. */
const IDLE_CHECKS = 4;
const IDLE_POLL_MS = 25;

type Listening = Pick<App, "app" | "websocket">;

/** The open port. */
export type PortListener = {
  readonly port: number;
  /** Sends to the sockets subscribed to a topic, on the current and previous servers. */
  publish(topic: string, text: string): void;
  /**
   * Uses another certificate for new connections; existing sockets and requests are not affected.
   * @throws CommandError if it can't be used; then nothing changes.
   */
  useTls(tls: Tls): void;
  /** Refuses new connections; fulfills once all responses have ended and all connections are closed; with `isForced`, immediately. */
  stop(isForced: boolean): Promise<void>;
};

/**
 * Opens the port. Bun can't replace a server's certificate, so a new server takes over the port: both listen for a moment
 * (`SO_REUSEPORT`), then the old one only serves its existing connections.
 * @throws CommandError if it can't be opened, with the remedy.
 */
export function listen(parley: Listening, config: Config, tls: Tls | undefined): PortListener {
  try {
    if (tls) claimPort(config);
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
        await Promise.race([stopAll(false), untilIdle(servers)]);
        // Remaining connections are useless, such as that of a client whose body was refused before all of it arrived.
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
    // Never without need: a second Parley could start on the same port and take half of the connections.
    reusePort: tls !== undefined,
    development: false,
    idleTimeout: HTTP_IDLE_TIMEOUT_S,
    maxRequestBodySize: REQUEST_BYTES_MAX,
    websocket,
    ...(tls && { tls: { ...tls, ciphers: TLS_1_2_CIPHERS }, http2: config.HTTP2 === "on" }),
  });
  // Elysia stops the server when the process exits, which we do ourselves, and adds one listener per server.
  for (const listener of process.listeners("beforeExit"))
    if (!exitListeners.has(listener)) process.off("beforeExit", listener);
  if (!app.server) throw new CommandError("The server didn't start.");
  return app.server;
}

/** Fulfills when no request is in progress and no socket is open. */
async function untilIdle(servers: Iterable<Server<unknown>>): Promise<void> {
  const isIdle = () => [...servers].every((server) => server.pendingRequests + server.pendingWebSockets === 0);
  // A new connection may not have sent its request yet.
  for (let idleChecks = 0; idleChecks < IDLE_CHECKS; idleChecks = isIdle() ? idleChecks + 1 : 0)
    await Bun.sleep(IDLE_POLL_MS);
}

/** @returns a CommandError if the address or the certificate is the cause. */
function explain(error: unknown, config: Config): unknown {
  if (error instanceof Error && /PEM|SSL|BoringSSL|key values mismatch/i.test(error.message))
    return new CommandError("The certificate of TLS_CERT_FILE can't be used with the key of TLS_KEY_FILE.");
  return explainListenError(error, config);
}
