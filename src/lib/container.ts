import { existsSync } from "node:fs";

/** What Docker and Podman leave in the containers that they start. */
const MARKS = ["/.dockerenv", "/run/.containerenv"];

const isInContainer = MARKS.some((path) => existsSync(path));

const loopback = /^(?:localhost|[\w-]+\.localhost|127(?:\.\d{1,3}){3}|\[?::1\]?)$/;

/**
 * What to do if a server cannot be reached under a host that, in a container, is the container itself: a sentence after a
 * space; empty where that is not so.
 */
export function explainLoopback(host: string, isContained = isInContainer): string {
  if (!isContained || !loopback.test(host)) return "";
  return ` Parley runs in a container, where ${host} is the container itself; for the machine that it runs on write host.docker.internal, for another container its name.`;
}
