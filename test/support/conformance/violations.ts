import { afterAll, afterEach } from "bun:test";

const KEPT_MAX = 10;
const SHOWN_CHARS_MAX = 2_000;
let violations: string[] = [];

/** Records a violation of a document, which fails the running test. @param seen what was sent. */
export function addViolation(violation: string, seen?: unknown): void {
  if (violations.length >= KEPT_MAX) return;
  const shown =
    seen === undefined ? "" : `\n${(typeof seen === "string" ? seen : JSON.stringify(seen)).slice(0, SHOWN_CHARS_MAX)}`;
  violations.push(`${violation}${shown}`);
}

/** Takes the violations so far, so that they fail no test; for tests of the checks themselves. */
export function takeViolations(): string[] {
  const found = violations;
  violations = [];
  return found;
}

function failOnViolations(): void {
  const found = takeViolations();
  if (found.length > 0) throw new Error(found.join("\n\n"));
}

/** For the preload: a violation fails the test in which it occurred, or its file if no test is running. */
export function failTestsOnViolations(): void {
  afterEach(failOnViolations);
  afterAll(failOnViolations);
}
