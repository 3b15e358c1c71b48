import { accessSync, constants, createReadStream, readFileSync, type Stats, statSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import type { Fetch } from "../../lib/outgoing/create-fetch.ts";
import { CommandError, UsageError } from "../command.ts";
import { findChecksum } from "./checksum.ts";

/** The source of a new executable. */
export interface ExecutableSource {
  /** The path or URL, for messages. It contains no credentials. */
  readonly label: string;
  /** Opens the executable for reading. @throws CommandError if it can't be opened or is too large. */
  open(signal: AbortSignal): Promise<{ chunks: AsyncIterable<Uint8Array>; bytes: number | null }>;
  /** Finds the SHA-256 published next to the executable, in `<name>.sha256` or `SHA256SUMS`. Null if there is none. */
  findChecksum(signal: AbortSignal): Promise<string | null>;
}

/** Maximum size of a new executable. Parley's is about 150 MB. */
export const EXECUTABLE_BYTES_MAX = 536_870_912;
/** Maximum size of a list of checksums. */
const CHECKSUMS_BYTES_MAX = 1_048_576;
const CHECKSUMS_TIMEOUT_MS = 30_000;
const REDIRECTS_MAX = 5;

/**
 * Creates the source for a path or URL.
 * @param hasChecksum whether the user passed a checksum. If so, the connection needn't be secure.
 * @throws UsageError for an unusable URL.
 */
export function createSource(location: string, hasChecksum: boolean, fetch: Fetch): ExecutableSource {
  if (!/^[a-z][a-z0-9+.-]*:\/\//i.test(location)) return createFileSource(resolve(location));
  const url = URL.canParse(location) ? new URL(location) : null;
  if (url === null || !/^https?:$/.test(url.protocol))
    throw new UsageError(
      `${location.replace(/\/\/[^/]*@/, "//")} is neither a file nor an https URL; \`parley upgrade --help\` shows the usage.`,
    );
  if (!isSecure(url) && !hasChecksum)
    throw new UsageError(
      `Without TLS, anyone on the network could replace the executable and its checksum: use https for ${maskUrl(url)}, or pass --sha256.`,
    );
  return createUrlSource(url, hasChecksum, fetch);
}

function createFileSource(path: string): ExecutableSource {
  return {
    label: path,
    async open() {
      const stats = findStats(path);
      if (!stats) throw new CommandError(`The file ${path} doesn't exist; check the path.`);
      if (!stats.isFile()) throw new CommandError(`${path} is not a file; pass the executable itself.`);
      if (stats.size > EXECUTABLE_BYTES_MAX) throw createTooLargeError(path);
      requireReadable(path);
      return { chunks: createReadStream(path, { highWaterMark: 1_048_576 }), bytes: stats.size };
    },
    async findChecksum() {
      const name = basename(path);
      const ownChecksum = findText(`${path}.sha256`);
      const checksumList = findText(join(dirname(path), "SHA256SUMS"));
      return (
        (ownChecksum === null ? null : findChecksum(ownChecksum, name, { isOwnList: true })) ??
        (checksumList === null ? null : findChecksum(checksumList, name))
      );
    },
  };
}

function findText(path: string): string | null {
  const stats = findStats(path);
  if (!stats?.isFile() || stats.size > CHECKSUMS_BYTES_MAX) return null;
  requireReadable(path);
  return readFileSync(path, "utf8");
}

function findStats(path: string): Stats | undefined {
  try {
    return statSync(path, { throwIfNoEntry: false });
  } catch {
    throw createUnreadableError(path);
  }
}

function requireReadable(path: string): void {
  try {
    accessSync(path, constants.R_OK);
  } catch {
    throw createUnreadableError(path);
  }
}

const createUnreadableError = (path: string) =>
  new CommandError(`${path} can't be read by this user; change its permissions, or run this as root.`);

function createUrlSource(url: URL, hasChecksum: boolean, fetch: Fetch): ExecutableSource {
  const label = maskUrl(url);
  const fetchWithRedirects: FetchWithRedirects = (target, hasChecksum, signal) =>
    fetchFollowingRedirects(fetch, target, hasChecksum, signal);
  return {
    label,
    async open(signal) {
      const response = await fetchWithRedirects(url, hasChecksum, signal);
      if (response.status !== 200) {
        await response.body?.cancel();
        throw new CommandError(`${label} can't be downloaded (status ${response.status}); check the URL.`);
      }
      const bytes = Number(response.headers.get("content-length") ?? Number.NaN);
      if (bytes > EXECUTABLE_BYTES_MAX) throw createTooLargeError(label);
      if (response.body === null) throw new CommandError(`${label} is empty; check the URL.`);
      return { chunks: response.body, bytes: Number.isFinite(bytes) ? bytes : null };
    },
    async findChecksum(signal) {
      const name = decodeName(basename(url.pathname));
      const ownChecksum = await fetchText(fetchWithRedirects, createSiblingUrl(url, `${url.pathname}.sha256`), signal);
      const checksum = ownChecksum === null ? null : findChecksum(ownChecksum, name, { isOwnList: true });
      if (checksum !== null) return checksum;
      const checksumList = await fetchText(
        fetchWithRedirects,
        createSiblingUrl(url, `${dirname(url.pathname).replace(/\/$/, "")}/SHA256SUMS`),
        signal,
      );
      return checksumList === null ? null : findChecksum(checksumList, name);
    },
  };
}

/** Returns the URL of a file next to the executable. Keeps the query, which may grant access. */
function createSiblingUrl(url: URL, path: string): URL {
  const sibling = new URL(url);
  sibling.pathname = path;
  return sibling;
}

function decodeName(name: string): string {
  try {
    return decodeURIComponent(name);
  } catch {
    return name;
  }
}

type FetchWithRedirects = (url: URL, hasChecksum: boolean, signal: AbortSignal) => Promise<Response>;

async function fetchText(fetchUrl: FetchWithRedirects, url: URL, signal: AbortSignal): Promise<string | null> {
  try {
    return await fetchBody(fetchUrl, url, AbortSignal.any([signal, AbortSignal.timeout(CHECKSUMS_TIMEOUT_MS)]));
  } catch (error) {
    if (signal.aborted || error instanceof CommandError) throw error;
    throw new CommandError(`${maskUrl(url)} can't be read (${formatError(error)}); try again, or pass --sha256.`);
  }
}

async function fetchBody(fetchUrl: FetchWithRedirects, url: URL, signal: AbortSignal): Promise<string | null> {
  // A list of checksums has no checksum itself, so its connection must be secure.
  const response = await fetchUrl(url, false, signal);
  if (response.status !== 200) {
    await response.body?.cancel();
    return null;
  }
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of response.body ?? []) {
    bytes += chunk.length;
    // A longer body is probably an HTML page that the server returns for every URL.
    if (bytes > CHECKSUMS_BYTES_MAX) return null;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

/** Follows redirects, but never from HTTPS to HTTP. */
async function fetchFollowingRedirects(
  fetch: Fetch,
  url: URL,
  hasChecksum: boolean,
  signal: AbortSignal,
): Promise<Response> {
  let currentUrl = url;
  for (let redirects = 0; redirects <= REDIRECTS_MAX; redirects += 1) {
    const response = await fetch(currentUrl, {
      redirect: "manual",
      signal,
    }).catch((error: unknown) => {
      if (signal.aborted) throw signal.reason;
      throw new CommandError(
        `${maskUrl(currentUrl)} can't be reached (${formatError(error)}); check the URL and the network.`,
      );
    });
    const location = response.headers.get("location");
    if (response.status < 300 || response.status > 399 || location === null) return response;
    await response.body?.cancel();
    const redirectUrl = URL.parse(location, currentUrl.href);
    if (redirectUrl === null || !/^https?:$/.test(redirectUrl.protocol))
      throw new CommandError(`${maskUrl(currentUrl)} redirects to an unusable URL; download the file by hand.`);
    if (!isSecure(redirectUrl) && !hasChecksum)
      throw new CommandError(
        `${maskUrl(currentUrl)} redirects to ${maskUrl(redirectUrl)}, which doesn't use TLS; download the file by hand, or pass --sha256.`,
      );
    currentUrl = redirectUrl;
  }
  throw new CommandError(`${maskUrl(url)} redirects more than ${REDIRECTS_MAX} times; download the file by hand.`);
}

/** Formats an error for use within a sentence. */
function formatError(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).replace(/[.?]$/, "");
}

/** Returns whether a connection is protected against tampering, because it uses TLS or a loopback address. */
const isSecure = ({ protocol, hostname }: URL): boolean =>
  protocol === "https:" || /^(localhost|127\.[\d.]+|\[::1\])$/.test(hostname);

/** Formats a URL without its user, password, query and fragment, which may contain credentials. */
function maskUrl({ origin, pathname }: URL): string {
  return `${origin}${pathname}`;
}

const createTooLargeError = (label: string) =>
  new CommandError(
    `${label} is larger than ${EXECUTABLE_BYTES_MAX / 1_048_576} MiB, so it isn't Parley; check the name.`,
  );
