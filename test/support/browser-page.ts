import { readFileSync } from "node:fs";
import { join } from "node:path";
import { openChromium } from "./chromium.ts";
import { waitUntil } from "./wait-until.ts";

type Answer = {
  id?: number;
  error?: { message: string };
  result?: { result?: { value?: unknown }; exceptionDetails?: { text: string; exception?: { description?: string } } };
};
type Options = {
  /** A certificate (PEM) whose key is trusted in addition to the system's. */
  issuerFile?: string;
};

export type BrowserPage = Awaited<ReturnType<typeof openPage>>;

/** A page of `localhost` in a separate Chromium, in which a test evaluates expressions. */
export async function openPage(url: string, { issuerFile }: Options = {}) {
  const { folder, close } = openChromium("about:blank", [
    "--remote-debugging-port=0",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
    ...(issuerFile === undefined ? [] : [`--ignore-certificate-errors-spki-list=${hashKey(issuerFile)}`]),
  ]);
  const readPort = () => {
    try {
      return readFileSync(join(folder, "DevToolsActivePort"), "utf8").split("\n")[0] ?? "";
    } catch {
      return "";
    }
  };
  await waitUntil(() => readPort() !== "");
  type Target = { type: string; webSocketDebuggerUrl: string };
  let target: Target | undefined;
  await waitUntil(async () => {
    const targets = (await (await fetch(`http://127.0.0.1:${readPort()}/json/list`)).json()) as Target[];
    target = targets.find(({ type }) => type === "page");
    return target !== undefined;
  });
  const socket = new WebSocket(target?.webSocketDebuggerUrl ?? "");
  await new Promise((resolve) => {
    socket.onopen = resolve;
  });
  const waiting = new Map<number, (answer: Answer) => void>();
  socket.onmessage = ({ data }) => {
    const answer = JSON.parse(String(data)) as Answer;
    if (answer.id !== undefined) waiting.get(answer.id)?.(answer);
  };
  let lastId = 0;
  async function call(method: string, params: Record<string, unknown>): Promise<NonNullable<Answer["result"]>> {
    lastId += 1;
    const { promise, resolve } = Promise.withResolvers<Answer>();
    waiting.set(lastId, resolve);
    socket.send(JSON.stringify({ id: lastId, method, params }));
    const { error, result = {} } = await promise;
    if (error) throw new Error(`${method}: ${error.message}`);
    return result;
  }

  /** The awaited value of an expression. @throws Error if it throws. */
  async function evaluate<T>(expression: string): Promise<T> {
    const { result, exceptionDetails } = await call("Runtime.evaluate", {
      expression,
      awaitPromise: true,
      returnByValue: true,
    });
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result?.value as T;
  }

  await call("Page.navigate", { url });
  await waitUntil(() => evaluate<boolean>('document.readyState === "complete" && location.href !== "about:blank"'));
  return {
    evaluate,
    /** A command of the Chrome DevTools Protocol, such as a key. */
    call,
    close,
  };
}

/** The SHA-256 of a certificate's public key, in base64. */
function hashKey(certFile: string): string {
  const { stdout } = Bun.spawnSync([
    "sh",
    "-c",
    'openssl x509 -in "$0" -pubkey -noout | openssl pkey -pubin -outform der',
    certFile,
  ]);
  return new Bun.CryptoHasher("sha256").update(stdout).digest("base64");
}
