import { accessSync, constants, createReadStream, readFileSync, type Stats, statSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import type { Fetch } from "../../lib/outgoing/create-fetch.ts";
import { CommandError, UsageError } from "../command.ts";
import { readChecksum } from "./checksum.ts";

/** The source of a new executable. */
export interface ExecutableSource {
  /** The path or URL as the user wrote it, for messages. */
  readonly label: string;
  /** Opens the executable for reading. @throws CommandError if it can't be opened or is too large. */
  open(signal: AbortSignal): Promise<{ chunks: AsyncIterable<Uint8Array>; bytes: number | null }>;
  /** Finds the SHA-256 published next to the executable, in `<name>.sha256` or `SHA256SUMS`. Null if there is none. */
  findChecksum(signal: AbortSignal): Promise<string | null>;
}

/** Parley's executable is about 150 MB. A file larger than this is something else, and would only fill the disk. */
export const EXECUTABLE_BYTES_MAX = 536_870_912;
/** A file larger than this isn't a list of checksums. */
const CHECKSUMS_BYTES_MAX = 1_048_576;
const CHECKSUMS_TIMEOUT_MS = 30_000;
const REDIRECTS_MAX = 5;

/**
 * Creates the source for a path or URL.
 * @param isTrusted whether the checksum is known from elsewhere, so that the connection needn't be secure.
 * @throws UsageError for an unusable URL.
 */
export function createSource(text: string, isTrusted: boolean, fetch: Fetch): ExecutableSource {
  if (!/^[a-z][a-z0-9+.-]*:\/\//i.test(text)) return createFileSource(resolve(text));
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || !/^https?:$/.test(url.protocol))
    throw new UsageError(
      `${text.replace(/\/\/[^/]*@/, "//")} is neither a file nor an https URL; \`parley upgrade --help\` shows the usage.`,
    );
  if (!isSecure(url) && !isTrusted)
    throw new UsageError(
      `Without TLS, anyone on the network could replace the executable and its checksum: use https for ${maskUrl(url)}, or pass --sha256.`,
    );
  return createUrlSource(url, isTrusted, fetch);
}

function createFileSource(path: string): ExecutableSource {
  return {
    label: path,
    async open() {
      const stats = findStats(path);
      if (!stats) throw new CommandError(`The file ${path} doesn't exist; check the path.`);
      if (!stats.isFile()) throw new CommandError(`${path} is not a file; pass the executable itself.`);
      if (stats.size > EXECUTABLE_BYTES_MAX) throw tooLarge(path);
      requireReadable(path);
      return { chunks: createReadStream(path, { highWaterMark: 1_048_576 }), bytes: stats.size };
    },
    async findChecksum() {
      const name = basename(path);
      const ownChecksum = readText(`${path}.sha256`);
      const listed = readText(join(dirname(path), "SHA256SUMS"));
      return (
        (ownChecksum === null ? null : readChecksum(ownChecksum, name, { isAlone: true })) ??
        (listed === null ? null : readChecksum(listed, name))
      );
    },
  };
}

function readText(path: string): string | null {
  const stats = findStats(path);
  if (!stats?.isFile() || stats.size > CHECKSUMS_BYTES_MAX) return null;
  requireReadable(path);
  return readFileSync(path, "utf8");
}

function findStats(path: string): Stats | undefined {
  try {
    return statSync(path, { throwIfNoEntry: false });
  } catch {
    throw unreadable(path);
  }
}

function requireReadable(path: string): void {
  try {
    accessSync(path, constants.R_OK);
  } catch {
    throw unreadable(path);
  }
}

const unreadable = (path: string) =>
  new CommandError(`${path} can't be read by this user; change its permissions, or run this as root.`);

function createUrlSource(url: URL, isTrusted: boolean, fetch: Fetch): ExecutableSource {
  const label = maskUrl(url);
  const get: Get = (target, isTrusted, signal) => follow(fetch, target, isTrusted, signal);
  return {
    label,
    async open(signal) {
      const response = await get(url, isTrusted, signal);
      if (response.status !== 200) {
        await response.body?.cancel();
        throw new CommandError(`${label} can't be downloaded (status ${response.status}); check the URL.`);
      }
      const bytes = Number(response.headers.get("content-length") ?? Number.NaN);
      if (bytes > EXECUTABLE_BYTES_MAX) throw tooLarge(label);
      if (response.body === null) throw new CommandError(`${label} is empty; check the URL.`);
      return { chunks: response.body, bytes: Number.isFinite(bytes) ? bytes : null };
    },
    async findChecksum(signal) {
      const name = decode(basename(url.pathname));
      const ownChecksum = await getText(get, withPath(url, `${url.pathname}.sha256`), signal);
      const found = ownChecksum === null ? null : readChecksum(ownChecksum, name, { isAlone: true });
      if (found !== null) return found;
      const listed = await getText(
        get,
        withPath(url, `${dirname(url.pathname).replace(/\/$/, "")}/SHA256SUMS`),
        signal,
      );
      return listed === null ? null : readChecksum(listed, name);
    },
  };
}

/** Returns the URL of a file next to the executable. Keeps the query, which may grant access. */
function withPath(url: URL, path: string): URL {
  const other = new URL(url);
  other.pathname = path;
  return other;
}

function decode(name: string): string {
  try {
    return decodeURIComponent(name);
  } catch {
    return name;
  }
}

type Get = (url: URL, isTrusted: boolean, signal: AbortSignal) => Promise<Response>;

async function getText(get: Get, url: URL, signal: AbortSignal): Promise<string | null> {
  try {
    return await readBody(get, url, AbortSignal.any([signal, AbortSignal.timeout(CHECKSUMS_TIMEOUT_MS)]));
  } catch (error) {
    if (signal.aborted || error instanceof CommandError) throw error;
    throw new CommandError(`${maskUrl(url)} can't be read (${describe(error)}); try again, or pass --sha256.`);
  }
}

async function readBody(get: Get, url: URL, signal: AbortSignal): Promise<string | null> {
  const response = await get(url, false, signal);
  if (response.status !== 200) {
    await response.body?.cancel();
    return null;
  }
  const parts: Uint8Array[] = [];
  let bytes = 0;
  for await (const part of response.body ?? []) {
    bytes += part.length;
    // This is probably an HTML page that the server returns for every URL.
    if (bytes > CHECKSUMS_BYTES_MAX) return null;
    parts.push(part);
  }
  return Buffer.concat(parts).toString("utf8");
}

/** Follows redirects, but never from HTTPS to HTTP. */
async function follow(fetch: Fetch, url: URL, isTrusted: boolean, signal: AbortSignal): Promise<Response> {
  let target = url;
  for (let redirects = 0; redirects <= REDIRECTS_MAX; redirects += 1) {
    const response = await fetch(target, {
      redirect: "manual",
      signal,
    }).catch((error: unknown) => {
      if (signal.aborted) throw signal.reason;
      throw new CommandError(
        `${maskUrl(target)} can't be reached (${describe(error)}); check the URL and the network.`,
      );
    });
    const location = response.headers.get("location");
    if (response.status < 300 || response.status > 399 || location === null) return response;
    await response.body?.cancel();
    const next = URL.parse(location, target.href);
    if (next === null || !/^https?:$/.test(next.protocol))
      throw new CommandError(`${maskUrl(target)} redirects to an unusable URL; download the file by hand.`);
    if (!isSecure(next) && !isTrusted)
      throw new CommandError(
        `${maskUrl(target)} redirects to ${maskUrl(next)}, which doesn't use TLS; download the file by hand, or pass --sha256.`,
      );
    target = next;
  }
  throw new CommandError(`${maskUrl(url)} redirects more than ${REDIRECTS_MAX} times; download the file by hand.`);
}

/** Formats the reason for an error, for use within a sentence. */
function describe(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).replace(/[.?]$/, "");
}

/** A loopback connection can't be intercepted. */
const isSecure = ({ protocol, hostname }: URL): boolean =>
  protocol === "https:" || /^(localhost|127\.[\d.]+|\[::1\])$/.test(hostname);

/** Formats a URL without anything that may be a credential. */
function maskUrl({ origin, pathname }: URL): string {
  return `${origin}${pathname}`;
}

const tooLarge = (label: string) =>
  new CommandError(
    `${label} is larger than ${EXECUTABLE_BYTES_MAX / 1_048_576} MiB, so it isn't Parley; check the name.`,
  );
