import { afterAll, afterEach } from "bun:test";

const VIOLATIONS_MAX = 10;
const PAYLOAD_CHARS_MAX = 2_000;
let violations: string[] = [];

/** Records a violation, which fails the running test. @param payload The message or body that violates the document. */
export function addViolation(violation: string, payload?: unknown): void {
  if (violations.length >= VIOLATIONS_MAX) return;
  const payloadText =
    payload === undefined
      ? ""
      : `\n${(typeof payload === "string" ? payload : JSON.stringify(payload)).slice(0, PAYLOAD_CHARS_MAX)}`;
  violations.push(`${violation}${payloadText}`);
}

/** Returns and clears the recorded violations, so that they don't fail a test of the checks themselves. */
export function drainViolations(): string[] {
  const drainedViolations = violations;
  violations = [];
  return drainedViolations;
}

function failOnViolations(): void {
  const testViolations = drainViolations();
  if (testViolations.length > 0) throw new Error(testViolations.join("\n\n"));
}

/** Fails the test in which a violation occurs, or its file if no test is running. The preload calls it. */
export function failTestsOnViolations(): void {
  afterEach(failOnViolations);
  afterAll(failOnViolations);
}
