import type { Metric } from "prom-client";
import { createMetrics } from "../src/lib/metrics.ts";
import { placeMarkedPart } from "./marked-part.ts";

/** Properties of a metric that the library's types don't declare. */
type Described = Metric & { name: string; help: string; labelNames: string[] };

/** Inserts the table of Parley's own metrics between its markers. @throws if the markers are missing. */
export const placeMetricTable = (markdown: string): string => placeMarkedPart(markdown, "metrics", createMetricTable());

function createMetricTable(): string {
  const { registry } = createMetrics({ version: "", commit: "" });
  const rows = (registry.getMetricsAsArray() as unknown as Described[])
    .filter(({ name }) => name.startsWith("parley_"))
    .map((metric) => {
      const labels = metric.labelNames.map((label) => `\`${label}\``).join(", ");
      return `| \`${metric.name}\` | ${metric.constructor.name.toLowerCase()} | ${labels} | ${metric.help} |`;
    })
    .sort();
  return ["| metric | type | labels | what it measures |", "| --- | --- | --- | --- |", ...rows].join("\n");
}
