import { existsSync } from "node:fs";

/** Files that Docker and Podman create in containers. */
const MARKER_FILES = ["/.dockerenv", "/run/.containerenv"];

const hasMarkerFile = MARKER_FILES.some((path) => existsSync(path));

const loopbackPattern = /^(?:localhost|[\w-]+\.localhost|127(?:\.\d{1,3}){3}|\[?::1\]?)$/;

/**
 * Returns a hint if Parley runs in a container and the host is a loopback address, otherwise an empty string. The hint begins
 * with a space.
 */
export function explainLoopback(host: string, isInContainer = hasMarkerFile): string {
  if (!isInContainer || !loopbackPattern.test(host)) return "";
  return ` Parley runs in a container, where ${host} is the container itself; use host.docker.internal for the host machine, or the name of another container.`;
}
