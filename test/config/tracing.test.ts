import { describe, expect, test } from "bun:test";
import { findTracesUrl, listResourceAttributes, parseTracingHeaders } from "../../src/config/tracing.ts";
import { findUnknownNames } from "../../src/config/unknown-names.ts";
import { formatConfig, listSecrets, loadConfig } from "../../src/config.ts";

const loadTestConfig = (environment: Record<string, string>) => loadConfig(environment, () => "");
const ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT";

describe("the endpoint", () => {
  test.each([
    [{}, null],
    [{ [ENDPOINT]: "http://collector:4318" }, "http://collector:4318/v1/traces"],
    [{ [ENDPOINT]: "https://collector/otlp/?tenant=1" }, "https://collector/otlp/v1/traces?tenant=1"],
    [
      { [ENDPOINT]: "http://collector:4318", OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: "http://traces/in" },
      "http://traces/in",
    ],
    [{ [ENDPOINT]: "http://collector:4318", OTEL_SDK_DISABLED: "true" }, null],
  ])("with the settings %j is %p", (environment, url) => {
    expect(findTracesUrl(loadTestConfig(environment))).toBe(url);
  });
});

test("headers are decoded, masked in output and redacted in the log", () => {
  const OTEL_EXPORTER_OTLP_HEADERS = "Authorization=Bearer%20token-of-mine, x-tenant=a%2Cb";
  const config = loadTestConfig({ OTEL_EXPORTER_OTLP_HEADERS });
  expect(parseTracingHeaders(config.OTEL_EXPORTER_OTLP_HEADERS)).toEqual({
    authorization: "Bearer token-of-mine",
    "x-tenant": "a,b",
  });
  expect(formatConfig(config)).not.toContain("token-of-mine");
  expect(listSecrets(config)).toEqual(expect.arrayContaining(["Bearer token-of-mine", "token-of-mine"]));
});

test("unsupported variables that apply only to traces cause a warning", () => {
  for (const name of ["HEADERS", "PROTOCOL", "TIMEOUT"])
    expect(findUnknownNames({ [`OTEL_EXPORTER_OTLP_TRACES_${name}`]: "x" })).toEqual([
      `OTEL_EXPORTER_OTLP_TRACES_${name} is not a Parley setting and has no effect; did you mean OTEL_EXPORTER_OTLP_${name}?`,
    ]);
});

test("the headers can be in a file", () => {
  const config = loadConfig({ OTEL_EXPORTER_OTLP_HEADERS_FILE: "/headers" }, () => "x-key=from-a-file\n");
  expect(parseTracingHeaders(config.OTEL_EXPORTER_OTLP_HEADERS)).toEqual({ "x-key": "from-a-file" });
});

test.each([
  [{ OTEL_EXPORTER_OTLP_HEADERS: "no-value" }, "OTEL_EXPORTER_OTLP_HEADERS: the value is not a list"],
  [{ OTEL_EXPORTER_OTLP_HEADERS: "host=other" }, "OTEL_EXPORTER_OTLP_HEADERS: the value is not a list"],
  [{ OTEL_EXPORTER_OTLP_HEADERS: "a=%zz" }, "OTEL_EXPORTER_OTLP_HEADERS: the value is not a list"],
  [{ OTEL_RESOURCE_ATTRIBUTES: "a" }, 'OTEL_RESOURCE_ATTRIBUTES: "a" is not a list'],
  [{ OTEL_EXPORTER_OTLP_PROTOCOL: "grpc" }, 'OTEL_EXPORTER_OTLP_PROTOCOL: "grpc" is not one of http/protobuf'],
  [{ OTEL_TRACES_SAMPLER: "sometimes" }, 'OTEL_TRACES_SAMPLER: "sometimes" is not one of'],
  [{ OTEL_TRACES_SAMPLER_ARG: "2" }, "OTEL_TRACES_SAMPLER_ARG: 2 is not a number from 0 to 1"],
  [{ [ENDPOINT]: "collector:4317" }, "OTEL_EXPORTER_OTLP_ENDPOINT: "],
])("%j is rejected with an error that mentions the setting", (environment, problem) => {
  expect(() => loadTestConfig(environment as Record<string, string>)).toThrow(problem);
});

test("the service name comes from OTEL_SERVICE_NAME, otherwise from the resource attributes, and is parley by default", () => {
  const findServiceName = (environment: Record<string, string>) =>
    listResourceAttributes(loadTestConfig(environment), { "host.name": "here" })["service.name"];
  expect(findServiceName({})).toBe("parley");
  expect(findServiceName({ OTEL_RESOURCE_ATTRIBUTES: "service.name=other" })).toBe("other");
  expect(findServiceName({ OTEL_RESOURCE_ATTRIBUTES: "service.name=other", OTEL_SERVICE_NAME: "chat" })).toBe("chat");
});
