import { type Command, CommandError, exitCodes, parseOptions } from "./command.ts";
import { loadConfigFrom } from "./load-config.ts";
import { createLocalUrl } from "./local-url.ts";
import { removeRuntimeProxies } from "./runtime-proxies.ts";

const TIMEOUT_MS = 3_000;
export const healthcheckCommand: Command = {
  name: "healthcheck",
  summary: "exit with 0 if the server on this machine is ready",
  help: `Usage: parley healthcheck

Requests /readyz from the server on this machine (HOST, PORT, TLS_CERT_FILE). Exits with 0 if it is ready, otherwise with 1.
Use it for HEALTHCHECK in a Dockerfile.`,

  async run(args, environment) {
    parseOptions("healthcheck", args, {});
    const config = loadConfigFrom(environment);
    // The request goes to this machine, so it must not use a proxy.
    removeRuntimeProxies(environment);
    if (config.PORT === 0) throw new CommandError("PORT is 0, so the port is unknown; set PORT to the one in use.");
    const url = createLocalUrl(config, "/readyz");
    const response = await fetch(url, {
      signal: AbortSignal.timeout(TIMEOUT_MS),
      // The certificate is for the public host name, not for a loopback address.
      tls: { rejectUnauthorized: false },
    }).catch(() => null);
    if (response === null)
      throw new CommandError(`No server responds at ${url}; start it with \`parley serve\`, or set HOST and PORT.`);
    if (!response.ok)
      throw new CommandError(`The server is not ready (status ${response.status}); see ${url}?verbose.`);
    return exitCodes.success;
  },
};
