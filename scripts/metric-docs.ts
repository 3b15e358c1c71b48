import type { Metric } from "prom-client";
import { createMetrics } from "../src/lib/metrics.ts";
import { replaceMarkedSection } from "./marked-section.ts";

/** A metric, with properties that prom-client's types don't declare. */
type DescribedMetric = Metric & { name: string; help: string; labelNames: string[] };

/** Inserts the table of Parley's own metrics between its markers. @throws if the markers are missing. */
export const insertMetricTable = (markdown: string): string =>
  replaceMarkedSection(markdown, "metrics", createMetricTable());

function createMetricTable(): string {
  const { registry } = createMetrics({ version: "", commit: "" });
  const rows = (registry.getMetricsAsArray() as unknown as DescribedMetric[])
    .filter(({ name }) => /^(?:parley|gen_ai)_/.test(name))
    .map((metric) => {
      const labels = metric.labelNames.map((label) => `\`${label}\``).join(", ");
      return `| \`${metric.name}\` | ${metric.constructor.name.toLowerCase()} | ${labels} | ${metric.help} |`;
    })
    .sort();
  return ["| metric | type | labels | what it measures |", "| --- | --- | --- | --- |", ...rows].join("\n");
}
