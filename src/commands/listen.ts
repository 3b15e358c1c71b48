import type { Server } from "bun";
import type { App } from "../app.ts";
import type { Tls } from "../config/tls.ts";
import type { Config } from "../config.ts";
import { claimPort, explainListenError, hostOf } from "./address.ts";
import { CommandError } from "./command.ts";

/** A quiet HTTP connection is closed after so long; streams send heartbeats and lift it. */
const HTTP_IDLE_TIMEOUT_S = 30;
/**
 * No limit of the runtime's: it would hang up with an empty answer. Ours is 1 MiB and says so; nothing beyond it is kept
 * in memory, because the runtime reads no faster than we do.
 */
const REQUEST_BYTES_MAX = Number.MAX_SAFE_INTEGER;

/**
 * Of TLS 1.2 only what has forward secrecy (ECDHE) and encrypts with authentication (AEAD): no CBC, no static RSA. The
 * runtime offers both by default. TLS 1.3 has nothing else, and no list.
 */
const TLS_1_2_CIPHERS = [
  "ECDHE-ECDSA-AES128-GCM-SHA256",
  "ECDHE-RSA-AES128-GCM-SHA256",
  "ECDHE-ECDSA-AES256-GCM-SHA384",
  "ECDHE-RSA-AES256-GCM-SHA384",
  "ECDHE-ECDSA-CHACHA20-POLY1305",
  "ECDHE-RSA-CHACHA20-POLY1305",
].join(":");

/** Idle for so many looks, one after the other, counts as idle. */
const IDLE_LOOKS = 4;
const IDLE_LOOK_MS = 25;

type Listening = Pick<App, "app" | "websocket">;

/** The open port. */
export type PortListener = {
  readonly port: number;
  /** Sends to the sockets that subscribed to a topic, whichever certificate they came in under. */
  publish(topic: string, text: string): void;
  /**
   * New connections get another certificate; sockets and running requests go on as they are.
   * @throws CommandError when it cannot be served; then nothing has changed.
   */
  useTls(tls: Tls): void;
  /** No new connections; fulfils when the last answer has ended and all are closed, at once with `isForced`. */
  stop(isForced: boolean): Promise<void>;
};

/**
 * Opens the port. The runtime cannot exchange the certificate of a server, so another one takes over the port from it:
 * both listen for a moment (`SO_REUSEPORT`), then the old one only serves what it has.
 * @throws CommandError when it cannot be opened, with what to do about it.
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
        // What is open has nothing to say any more, such as a client whose body was refused before all of it had come.
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
    // Where it is not needed it must not be: a second Parley would start on the same port and take half of its connections.
    reusePort: tls !== undefined,
    development: false,
    idleTimeout: HTTP_IDLE_TIMEOUT_S,
    maxRequestBodySize: REQUEST_BYTES_MAX,
    websocket,
    ...(tls && { tls: { ...tls, ciphers: TLS_1_2_CIPHERS }, http2: config.HTTP2 === "on" }),
  });
  // The framework would stop the server at the end of the process, which we do ourselves, and adds one for each.
  for (const listener of process.listeners("beforeExit"))
    if (!exitListeners.has(listener)) process.off("beforeExit", listener);
  if (!app.server) throw new CommandError("The server did not start.");
  return app.server;
}

/** Fulfils when no request is answered any more, and no socket is open. */
async function untilIdle(servers: Iterable<Server<unknown>>): Promise<void> {
  const isIdle = () => [...servers].every((server) => server.pendingRequests + server.pendingWebSockets === 0);
  // A connection that was just taken may not have asked yet.
  for (let idleLooks = 0; idleLooks < IDLE_LOOKS; idleLooks = isIdle() ? idleLooks + 1 : 0)
    await Bun.sleep(IDLE_LOOK_MS);
}

/** @returns a CommandError where the address or the certificate is at fault. */
function explain(error: unknown, config: Config): unknown {
  if (error instanceof Error && /PEM|SSL|BoringSSL|key values mismatch/i.test(error.message))
    return new CommandError("The certificate of TLS_CERT_FILE and the key of TLS_KEY_FILE cannot be served with.");
  return explainListenError(error, config);
}
