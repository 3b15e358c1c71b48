import { findTracesUrl, parseTracingHeaders } from "../../config/tracing.ts";
import { maskAddress } from "../../lib/mask-address.ts";
import type { DoctorCheck } from "./check.ts";
import { ok, problem, skipped } from "./finding.ts";
import { requestJson } from "./http-response.ts";

export const tracingCheck: DoctorCheck = {
  name: "tracing",
  async run(context) {
    const { config, isOffline } = context;
    const url = findTracesUrl(config);
    if (url === null) return [skipped("OTEL_EXPORTER_OTLP_ENDPOINT is not set, so no traces are sent.")];
    if (isOffline) return [skipped("--offline: the trace collector is not called.")];
    const outcome = await requestJson(context, url, {
      method: "POST",
      headers: { ...parseTracingHeaders(config.OTEL_EXPORTER_OTLP_HEADERS), "content-type": "application/x-protobuf" },
      // An empty body is a valid request without spans.
      body: new Uint8Array(),
    });
    const label = `The trace collector (${maskAddress(url)})`;
    const remedy = "correct OTEL_EXPORTER_OTLP_ENDPOINT and OTEL_EXPORTER_OTLP_HEADERS, or check the collector";
    if ("failure" in outcome) return [problem(`${label} ${outcome.failure}; ${remedy}.${outcome.hint}`)];
    if (outcome.status >= 200 && outcome.status < 300) return [ok(`${label} accepts traces.`)];
    return [problem(`${label} responded with ${outcome.status}; ${remedy}.`)];
  },
};
