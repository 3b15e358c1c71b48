import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterTestRun } from "./after-test-run.ts";

const LOAD_TIMEOUT_MS = 60_000;

/** Opens a URL in Debian's Chromium. It can reach only this machine. */
export function openChromium(url: string, extraFlags: string[] = []) {
  const folder = mkdtempSync(join(tmpdir(), "parley-chromium-"));
  const child = Bun.spawn(
    [
      "chromium",
      "--headless=new",
      "--no-sandbox",
      "--disable-gpu",
      "--disable-dev-shm-usage",
      "--disable-background-networking",
      "--no-first-run",
      "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
      `--user-data-dir=${folder}`,
      ...extraFlags,
      url,
    ],
    { stdio: ["ignore", "pipe", "ignore"], env: { ...process.env, HOME: folder }, timeout: LOAD_TIMEOUT_MS },
  );
  const close = async () => {
    child.kill("SIGKILL");
    await child.exited;
    // Chromium's helper processes exit a moment later, and can create files until then.
    rmSync(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
  };
  afterTestRun(close);
  return { child, close, folder };
}

/** Loads a page and returns its DOM as HTML. */
export async function loadDom(url: string): Promise<string> {
  const { child, close } = openChromium(url, ["--dump-dom"]);
  const text = await new Response(child.stdout).text();
  await close();
  return text;
}
