import { createMetrics } from "../../src/lib/metrics.ts";

type Described = { name: string; labelNames: string[]; constructor: { name: string } };

const { registry } = createMetrics({ version: "", commit: "" });

/** The labels of each series that `/metrics` can show, and of what Prometheus adds. */
const labelsOf = new Map<string, readonly string[]>([["up", []]]);
for (const metric of registry.getMetricsAsArray() as unknown as Described[]) {
  const isHistogram = metric.constructor.name === "Histogram";
  if (isHistogram) {
    labelsOf.set(`${metric.name}_bucket`, [...metric.labelNames, "le"]);
    for (const suffix of ["_sum", "_count"]) labelsOf.set(metric.name + suffix, metric.labelNames);
  } else labelsOf.set(metric.name, metric.labelNames);
}
const targetLabels = ["instance", "job"];
const words = new Set(["by", "or", "and", "on", "ignoring", "without", "unless"]);

/**
 * What is wrong with the names in an expression: series that `/metrics` doesn't have, and labels that none of its series has.
 */
export function findUnknownNames(expression: string): string[] {
  const text = expression.replaceAll(/"(?:[^"\\]|\\.)*"/g, '""');
  const selectors = [...text.matchAll(/\b([a-z_]+)\b(?!\s*\()(?:\{([^}]*)\})?/g)];
  const groupings = [...text.matchAll(/\b(?:by|without)\s*\(([^)]*)\)/g)].flatMap(([, list = ""]) => readList(list));
  const isGrouping = new Set(groupings);
  const problems: string[] = [];
  const known = new Set(targetLabels);
  for (const [, name = "", matchers = ""] of selectors) {
    const labels = labelsOf.get(name);
    if (labels) {
      for (const label of labels) known.add(label);
      for (const label of readList(matchers).map((matcher) => matcher.replace(/\s*[!=~].*$/, "")))
        if (![...labels, ...targetLabels].includes(label)) problems.push(`${name} has no label ${label}`);
    } else if (/^(parley|process|gen_ai)_/.test(name) && !isGrouping.has(name)) problems.push(`no series ${name}`);
    else if (matchers !== "" && !words.has(name)) problems.push(`no series ${name}`);
  }
  for (const label of groupings) if (!known.has(label)) problems.push(`no series has the label ${label}`);
  return problems;
}

const readList = (list: string): string[] =>
  list
    .split(",")
    .map((part) => part.trim())
    .filter((part) => part !== "");
