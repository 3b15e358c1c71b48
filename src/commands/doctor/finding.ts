/** The outcome of one check. `skipped`: it could not be made, and the message says why. */
export type FindingStatus = "ok" | "warning" | "problem" | "skipped";

/** What a check found: for a warning or a problem, what is wrong and what to do. */
export type Finding = { status: FindingStatus; message: string };

export const ok = (message: string): Finding => ({ status: "ok", message });
/** Parley works, but probably not as intended. */
export const warning = (message: string): Finding => ({ status: "warning", message });
/** Parley doesn't start, or a configured part of it doesn't work. */
export const problem = (message: string): Finding => ({ status: "problem", message });
export const skipped = (message: string): Finding => ({ status: "skipped", message });

/** The sentence if nothing else was found, since a check always reports something. */
export const orOk = (findings: Finding[], message: string): Finding[] =>
  findings.some(({ status }) => status !== "skipped") ? findings : [ok(message), ...findings];
