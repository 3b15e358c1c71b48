import { readFileSync } from "node:fs";
import { join } from "node:path";
import { openChromium } from "./chromium.ts";
import { waitUntil } from "./wait-until.ts";

type CommandResponse = {
  id?: number;
  error?: { message: string };
  result?: { result?: { value?: unknown }; exceptionDetails?: { text: string; exception?: { description?: string } } };
};
type Options = {
  /** The PEM file of a certificate that the browser trusts although its issuer is unknown. */
  trustedCertFile?: string;
};

export type BrowserPage = Awaited<ReturnType<typeof openPage>>;

/** Opens a `localhost` URL in a new Chromium, so that a test can evaluate expressions in the page. */
export async function openPage(url: string, { trustedCertFile }: Options = {}) {
  const { folder, close } = openChromium("about:blank", [
    "--remote-debugging-port=0",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
    ...(trustedCertFile === undefined
      ? []
      : [`--ignore-certificate-errors-spki-list=${hashPublicKey(trustedCertFile)}`]),
  ]);
  const readDebuggingPort = () => {
    try {
      return readFileSync(join(folder, "DevToolsActivePort"), "utf8").split("\n")[0] ?? "";
    } catch {
      return "";
    }
  };
  await waitUntil(() => readDebuggingPort() !== "");
  type Target = { type: string; webSocketDebuggerUrl: string };
  let target: Target | undefined;
  await waitUntil(async () => {
    const targets = (await (await fetch(`http://127.0.0.1:${readDebuggingPort()}/json/list`)).json()) as Target[];
    target = targets.find(({ type }) => type === "page");
    return target !== undefined;
  });
  const socket = new WebSocket(target?.webSocketDebuggerUrl ?? "");
  await new Promise((resolve) => {
    socket.onopen = resolve;
  });
  const pendingCommands = new Map<number, (response: CommandResponse) => void>();
  socket.onmessage = ({ data }) => {
    const response = JSON.parse(String(data)) as CommandResponse;
    if (response.id !== undefined) pendingCommands.get(response.id)?.(response);
  };
  let lastId = 0;
  async function sendCommand(
    method: string,
    params: Record<string, unknown>,
  ): Promise<NonNullable<CommandResponse["result"]>> {
    lastId += 1;
    const { promise, resolve } = Promise.withResolvers<CommandResponse>();
    pendingCommands.set(lastId, resolve);
    socket.send(JSON.stringify({ id: lastId, method, params }));
    const { error, result = {} } = await promise;
    if (error) throw new Error(`${method}: ${error.message}`);
    return result;
  }

  /** Evaluates an expression and returns its awaited value. @throws Error if the expression throws. */
  async function evaluate<T>(expression: string): Promise<T> {
    const { result, exceptionDetails } = await sendCommand("Runtime.evaluate", {
      expression,
      awaitPromise: true,
      returnByValue: true,
    });
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result?.value as T;
  }

  await sendCommand("Page.navigate", { url });
  await waitUntil(() => evaluate<boolean>('document.readyState === "complete" && location.href !== "about:blank"'));
  return {
    evaluate,
    /** Sends a Chrome DevTools Protocol command, such as a key press. */
    sendCommand,
    close,
  };
}

/** Returns the SHA-256 hash of a certificate's public key, in base64. */
function hashPublicKey(certFile: string): string {
  const { stdout } = Bun.spawnSync([
    "sh",
    "-c",
    'openssl x509 -in "$0" -pubkey -noout | openssl pkey -pubin -outform der',
    certFile,
  ]);
  return new Bun.CryptoHasher("sha256").update(stdout).digest("base64");
}
