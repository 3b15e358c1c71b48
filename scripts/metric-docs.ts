import type { Metric } from "prom-client";
import { createMetrics } from "../src/lib/metrics.ts";
import { placeMarkedPart } from "./marked-part.ts";

/** The parts of a metric that the library keeps, but does not declare. */
type Described = Metric & { name: string; help: string; labelNames: string[] };

/** Puts the table of Parley's own metrics between its marks. @throws when they are missing. */
export const placeMetricTable = (markdown: string): string => placeMarkedPart(markdown, "metrics", createMetricTable());

function createMetricTable(): string {
  const { registry } = createMetrics({ version: "", commit: "" });
  const rows = (registry.getMetricsAsArray() as unknown as Described[])
    .filter(({ name }) => /^(?:parley|gen_ai)_/.test(name))
    .map((metric) => {
      const labels = metric.labelNames.map((label) => `\`${label}\``).join(", ");
      return `| \`${metric.name}\` | ${metric.constructor.name.toLowerCase()} | ${labels} | ${metric.help} |`;
    })
    .sort();
  return ["| metric | type | labels | what it measures |", "| --- | --- | --- | --- |", ...rows].join("\n");
}
