/** The outcome of a check. If it is `skipped`, the message contains the reason. */
export type FindingStatus = "ok" | "warning" | "problem" | "skipped";

/** A line of the report. For a warning or a problem, the message explains what is wrong and what to do. */
export type Finding = { status: FindingStatus; message: string };

export const ok = (message: string): Finding => ({ status: "ok", message });
/** Creates a finding for a configuration that works, but probably not as intended. */
export const warning = (message: string): Finding => ({ status: "warning", message });
/** Creates a finding for something that keeps Parley, or a configured feature, from working. */
export const problem = (message: string): Finding => ({ status: "problem", message });
export const skipped = (message: string): Finding => ({ status: "skipped", message });

/** Adds an `ok` finding with this message if there are no findings other than `skipped` ones. */
export const addOkIfNoFindings = (findings: Finding[], message: string): Finding[] =>
  findings.some(({ status }) => status !== "skipped") ? findings : [ok(message), ...findings];
