import { createMetrics } from "../../src/lib/metrics.ts";

type MetricDefinition = { name: string; labelNames: string[]; constructor: { name: string } };

const { registry } = createMetrics({ version: "", commit: "" });

/** The labels of each series that `/metrics` exposes, and of `up`, which Prometheus adds. */
const labelsBySeries = new Map<string, readonly string[]>([["up", []]]);
for (const metric of registry.getMetricsAsArray() as unknown as MetricDefinition[]) {
  const isHistogram = metric.constructor.name === "Histogram";
  if (isHistogram) {
    labelsBySeries.set(`${metric.name}_bucket`, [...metric.labelNames, "le"]);
    for (const suffix of ["_sum", "_count"]) labelsBySeries.set(metric.name + suffix, metric.labelNames);
  } else labelsBySeries.set(metric.name, metric.labelNames);
}
const targetLabels = ["instance", "job"];
const keywords = new Set(["by", "or", "and", "on", "ignoring", "without", "unless"]);

/**
 * Finds the series and labels in an expression that don't exist in `/metrics`.
 * @returns an error message for each unknown series or label.
 */
export function findUnknownNames(expression: string): string[] {
  const text = expression.replaceAll(/"(?:[^"\\]|\\.)*"/g, '""');
  const selectors = [...text.matchAll(/\b([a-z_]+)\b(?!\s*\()(?:\{([^}]*)\})?/g)];
  const groupings = [...text.matchAll(/\b(?:by|without)\s*\(([^)]*)\)/g)].flatMap(([, list = ""]) => parseList(list));
  const groupingNames = new Set(groupings);
  const problems: string[] = [];
  const knownLabels = new Set(targetLabels);
  for (const [, name = "", matchers = ""] of selectors) {
    const labels = labelsBySeries.get(name);
    if (labels) {
      for (const label of labels) knownLabels.add(label);
      for (const label of parseList(matchers).map((matcher) => matcher.replace(/\s*[!=~].*$/, "")))
        if (![...labels, ...targetLabels].includes(label)) problems.push(`${name} has no label ${label}`);
    } else if (/^(parley|process|gen_ai)_/.test(name) && !groupingNames.has(name)) problems.push(`no series ${name}`);
    else if (matchers !== "" && !keywords.has(name)) problems.push(`no series ${name}`);
  }
  for (const label of groupings) if (!knownLabels.has(label)) problems.push(`no series has the label ${label}`);
  return problems;
}

const parseList = (list: string): string[] =>
  list
    .split(",")
    .map((part) => part.trim())
    .filter((part) => part !== "");
