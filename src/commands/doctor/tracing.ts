import { findTracesUrl, readHeaders } from "../../config/tracing.ts";
import { maskAddress } from "../../lib/mask-address.ts";
import type { DoctorCheck } from "./check.ts";
import { ok, problem, skipped } from "./finding.ts";
import { requestAnswer } from "./http-answer.ts";

export const tracingCheck: DoctorCheck = {
  name: "tracing",
  async find(context) {
    const { config, isOffline } = context;
    const url = findTracesUrl(config);
    if (url === null) return [skipped("OTEL_EXPORTER_OTLP_ENDPOINT is not set, so no traces are sent.")];
    if (isOffline) return [skipped("--offline: the collector of traces is not called.")];
    const answer = await requestAnswer(context, url, {
      method: "POST",
      headers: { ...readHeaders(config.OTEL_EXPORTER_OTLP_HEADERS), "content-type": "application/x-protobuf" },
      // A request without spans is empty.
      body: new Uint8Array(),
    });
    const named = `The collector of traces (${maskAddress(url)})`;
    const remedy = "correct OTEL_EXPORTER_OTLP_ENDPOINT and OTEL_EXPORTER_OTLP_HEADERS, or check the collector";
    if ("failure" in answer) return [problem(`${named} ${answer.failure}; ${remedy}.${answer.hint}`)];
    if (answer.status >= 200 && answer.status < 300) return [ok(`${named} accepts traces.`)];
    return [problem(`${named} responded with ${answer.status}; ${remedy}.`)];
  },
};
