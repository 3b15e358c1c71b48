import type { Config } from "../config.ts";
import { CommandError } from "./command.ts";

type Address = Pick<Config, "HOST" | "PORT">;

/** The host as the system takes it: an IPv6 address may be given in brackets, as in a URL. */
export const hostOf = ({ HOST }: Pick<Config, "HOST">): string => HOST.replace(/^\[(.*)\]$/, "$1");

/**
 * Takes the port for itself alone and gives it back at once. Called before anything is made or started, so that a second
 * Parley is refused at once and leaves nothing behind.
 * @throws CommandError when it cannot be opened, with what to do about it.
 */
export function claimPort(address: Address): void {
  if (address.PORT === 0) return;
  try {
    const socket = { data: (socket: { end(): void }) => void socket.end() };
    Bun.listen({ hostname: hostOf(address), port: address.PORT, exclusive: true, socket }).stop(true);
  } catch (error) {
    throw explainListenError(error, address);
  }
}

/** What the system says of an address that is none, or none of this machine. */
const addressCodes = new Set(["EADDRNOTAVAIL", "ENOTFOUND", "EINVAL", "ENOTSUP", "EAFNOSUPPORT", "EAI_AGAIN"]);

/** Why a port cannot be opened, as a sentence; whatever has nothing to do with that stays as it is. */
export function explainListenError(error: unknown, { HOST, PORT }: Address): unknown {
  if (!(error instanceof Error)) return error;
  const code = "code" in error ? String(error.code) : "";
  if (code === "EADDRINUSE")
    return new CommandError(`Port ${PORT} on ${HOST} is in use; stop what listens there, or set PORT to another one.`);
  if (code === "EACCES")
    return new CommandError(`Port ${PORT} may not be opened by this user; set PORT to one above 1023.`);
  // Of a name that it cannot resolve the runtime has no code.
  if (addressCodes.has(code) || error.message.startsWith("Failed to listen at"))
    return new CommandError(`HOST ${HOST} is not an address of this machine; 0.0.0.0 stands for all of them.`);
  return error;
}
