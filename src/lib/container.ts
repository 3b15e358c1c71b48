import { existsSync } from "node:fs";

/** Files that Docker and Podman create in containers. */
const MARKS = ["/.dockerenv", "/run/.containerenv"];

const isInContainer = MARKS.some((path) => existsSync(path));

const loopback = /^(?:localhost|[\w-]+\.localhost|127(?:\.\d{1,3}){3}|\[?::1\]?)$/;

/**
 * Returns a hint, preceded by a space, if Parley runs in a container and the host is a loopback address; otherwise an empty
 * string.
 */
export function explainLoopback(host: string, isContained = isInContainer): string {
  if (!isContained || !loopback.test(host)) return "";
  return ` Parley runs in a container, where ${host} is the container itself; use host.docker.internal for the host machine, or the name of another container.`;
}
