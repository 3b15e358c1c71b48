import { afterAll, afterEach } from "bun:test";
import type { TSchema } from "@sinclair/typebox";
import { TypeCompiler } from "@sinclair/typebox/compiler";
import { acks, pushes } from "../../src/protocol/pushes.ts";

/**
 * Checks every push in the tests against the table of pushes. Everything that receives pushes in tests calls this; an
 * invalid frame fails the test in which it arrived.
 */

const compileAll = (table: Record<string, TSchema>) =>
  new Map(Object.entries(table).map(([type, schema]) => [type, TypeCompiler.Compile(schema)]));
const pushChecks = compileAll(pushes);
const ackChecks = compileAll(acks);

const VIOLATIONS_KEPT_MAX = 10;
const SHOWN_CHARS_MAX = 2_000;
let violations: string[] = [];
/** The number of checked frames by type, so that a test can verify the checks. */
export const checkedPushes = new Map<string, number>();

/** @param to the type of the client frame that an ack responds to, if known. */
export function checkPush(push: unknown, to?: string): void {
  const violation = findViolation(push, to);
  if (violation && violations.length < VIOLATIONS_KEPT_MAX)
    violations.push(`${violation}\n${JSON.stringify(push).slice(0, SHOWN_CHARS_MAX)}`);
}

/** What is wrong with a push, as one line; null if it matches the table. */
export function findViolation(push: unknown, to?: string): string | null {
  const type = String((push as { type?: unknown } | null)?.type);
  checkedPushes.set(type, (checkedPushes.get(type) ?? 0) + 1);
  const check = type === "ack" && to !== undefined ? ackChecks.get(to) : pushChecks.get(type);
  if (!check) return type === "ack" ? `A ${to} is not acknowledged.` : `The server sends no ${type}.`;
  if (check.Check(push)) return null;
  const { path, message } = check.Errors(push).First() ?? {};
  return `This ${type}${to ? ` of ${to}` : ""} does not match the table of pushes: ${path || "/"}: ${message}`;
}

/** Checks everything received over a socket to `/realtime`, acks by the frames that they respond to. */
export function checkSocket(socket: WebSocket): void {
  const sentTypes = new Map<string, string>();
  const send = socket.send.bind(socket);
  socket.send = (data: Parameters<WebSocket["send"]>[0]) => {
    const { id, type } = readSent(data);
    // Two frames with the same id: it is unknown which of them an ack responds to.
    if (typeof id === "string" && sentTypes.has(id)) sentTypes.delete(id);
    else if (typeof id === "string" && typeof type === "string") sentTypes.set(id, type);
    send(data);
  };
  socket.addEventListener("message", ({ data }) => {
    const push = JSON.parse(String(data)) as { id?: string };
    checkPush(push, push.id === undefined ? undefined : sentTypes.get(push.id));
    sentTypes.delete(push.id ?? "");
  });
}

function readSent(data: unknown): { id?: unknown; type?: unknown } {
  try {
    return (JSON.parse(String(data)) ?? {}) as object;
  } catch {
    // Tests send invalid JSON, too.
    return {};
  }
}

function failOnViolations(): void {
  const found = violations;
  violations = [];
  if (found.length > 0) throw new Error(found.join("\n\n"));
}

/** For the preload: a violation fails the test in which it occurred, or its file if no test is running. */
export function failTestsOnViolations(): void {
  afterEach(failOnViolations);
  afterAll(failOnViolations);
}
