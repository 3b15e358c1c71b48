import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { atEndOfRun } from "./end-of-run.ts";

const LOAD_TIMEOUT_MS = 60_000;

/** Opens an address in Debian's Chromium, with access to this machine only. */
export function openChromium(url: string, more: string[] = []) {
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
      ...more,
      url,
    ],
    { stdio: ["ignore", "pipe", "ignore"], env: { ...process.env, HOME: folder }, timeout: LOAD_TIMEOUT_MS },
  );
  const close = async () => {
    child.kill("SIGKILL");
    await child.exited;
    // Its helper processes end a moment later, and may still write.
    rmSync(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
  };
  atEndOfRun(close);
  return { child, close, folder };
}

/** The elements of a page once it has loaded, as HTML. */
export async function readDom(url: string): Promise<string> {
  const { child, close } = openChromium(url, ["--dump-dom"]);
  const text = await new Response(child.stdout).text();
  await close();
  return text;
}
