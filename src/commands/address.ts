import type { Config } from "../config.ts";
import { CommandError } from "./command.ts";

type Address = Pick<Config, "HOST" | "PORT">;

/** Returns HOST without the brackets that an IPv6 address may be configured with. */
export const removeHostBrackets = ({ HOST }: Pick<Config, "HOST">): string => HOST.replace(/^\[(.*)\]$/, "$1");

/**
 * Checks that the port is free by opening it exclusively and closing it immediately. Call this before creating or starting
 * anything, so that a second Parley fails early and leaves nothing behind.
 * @throws CommandError with a remedy if the port can't be opened.
 */
export function checkPortIsFree(address: Address): void {
  if (address.PORT === 0) return;
  try {
    const socket = { data: (socket: { end(): void }) => void socket.end() };
    Bun.listen({ hostname: removeHostBrackets(address), port: address.PORT, exclusive: true, socket }).stop(true);
  } catch (error) {
    throw explainListenError(error, address);
  }
}

/** Error codes for an address that is invalid or doesn't belong to this machine. */
const invalidAddressCodes = new Set(["EADDRNOTAVAIL", "ENOTFOUND", "EINVAL", "ENOTSUP", "EAFNOSUPPORT", "EAI_AGAIN"]);

/** Returns a CommandError that explains why the port can't be opened; returns unrelated errors unchanged. */
export function explainListenError(error: unknown, { HOST, PORT }: Address): unknown {
  if (!(error instanceof Error)) return error;
  const code = "code" in error ? String(error.code) : "";
  if (code === "EADDRINUSE")
    return new CommandError(
      `Port ${PORT} on ${HOST} is in use; stop the process that listens there, or set a different PORT.`,
    );
  if (code === "EACCES")
    return new CommandError(`Port ${PORT} can't be opened by this user; set PORT to a number above 1023.`);
  // Bun's error has no code if a host name can't be resolved.
  if (invalidAddressCodes.has(code) || error.message.startsWith("Failed to listen at"))
    return new CommandError(`HOST ${HOST} is not an address of this machine; use 0.0.0.0 for all its addresses.`);
  return error;
}
