import { readFileSync } from "node:fs";
import type { App } from "../app.ts";
import type { Config } from "../config.ts";
import { CommandError } from "./command.ts";

/** A quiet HTTP connection is closed after so long; streams send heartbeats and lift it. */
const HTTP_IDLE_TIMEOUT_S = 30;
/**
 * More than this is hung up on without a word. Far above the limit of a body, so that who sends somewhat too much is told
 * so; a body beyond that limit is never kept in memory.
 */
const REQUEST_BYTES_MAX = 64 * 1024 * 1024;

export type Tls = { cert: string; key: string };

/**
 * Opens the port.
 * @throws CommandError when it cannot be opened, with what to do about it.
 */
export function listen({ app, websocket }: App, config: Config, tls: Tls | undefined) {
  try {
    app.listen({
      port: config.PORT,
      hostname: config.HOST,
      // With it, a second server would start on the same port and take half of its connections, with no error.
      reusePort: false,
      development: false,
      idleTimeout: HTTP_IDLE_TIMEOUT_S,
      maxRequestBodySize: REQUEST_BYTES_MAX,
      websocket,
      ...(tls && { tls }),
    });
  } catch (error) {
    throw explainListenError(error, config, tls !== undefined);
  }
  if (!app.server) throw new CommandError("The server did not start.");
  return app.server;
}

function explainListenError(error: unknown, { HOST, PORT }: Config, hasTls: boolean): unknown {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  if (code === "EADDRINUSE")
    return new CommandError(`Port ${PORT} on ${HOST} is in use; stop what listens there, or set PORT to another one.`);
  if (code === "EACCES")
    return new CommandError(`Port ${PORT} may not be opened by this user; set PORT to one above 1023.`);
  if (code === "EADDRNOTAVAIL" || code === "ENOTFOUND")
    return new CommandError(`HOST ${HOST} is not an address of this machine; 0.0.0.0 stands for all of them.`);
  if (hasTls && error instanceof Error && /PEM|SSL|key values mismatch/i.test(error.message))
    return new CommandError("TLS_CERT_FILE and TLS_KEY_FILE must hold a certificate and its private key, both as PEM.");
  return error;
}

/** The certificate to serve with, if the configuration names one; that it can be read has been checked with it. */
export function readTls({ TLS_CERT_FILE, TLS_KEY_FILE }: Config): Tls | undefined {
  if (!TLS_CERT_FILE || !TLS_KEY_FILE) return undefined;
  return { cert: readFileSync(TLS_CERT_FILE, "utf8"), key: readFileSync(TLS_KEY_FILE, "utf8") };
}
