import { expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createFolder } from "../commands/run-parley.ts";
import { composeFolder, monitoringFolder, readCompose, readExampleEnv } from "./compose-file.ts";
import { findProgram, readCaddyfile, readProxyFile } from "./programs.ts";
import { runProgram } from "./run-program.ts";
import { readYaml } from "./yaml-file.ts";

// These tests start several processes.
setDefaultTimeout(30_000);

const production = readCompose("production", readExampleEnv("production"));
const instances = Object.keys(production.services)
  .filter((name) => name.startsWith("parley"))
  .map((name) => `${name}:3000`);

test("Caddy accepts the Caddyfile with Compose's variables and rejects it without them", async () => {
  using folder = createFolder();
  const path = join(folder.path, "Caddyfile");
  writeFileSync(path, readCaddyfile());
  const validateCommand = [findProgram("caddy"), "validate", "--adapter", "caddyfile", "--config", path];
  const homeEnv = { HOME: folder.path };
  const validation = await runProgram(validateCommand, { ...homeEnv, ...production.services.caddy?.environment });
  expect(validation.output).toContain("Valid configuration");
  expect(validation.output).not.toContain('"level":"warn"');
  expect((await runProgram(validateCommand, homeEnv)).code).toBe(1);

  const adaptCommand = [findProgram("caddy"), "adapt", "--adapter", "caddyfile", "--config", path];
  const { output } = await runProgram(adaptCommand, { ...homeEnv, ...production.services.caddy?.environment });
  expect([...output.matchAll(/"dial":"([^"]+)"/g)].map(([, address]) => address)).toEqual(instances);
  expect(output).toContain('"host":["chat.example.com"]');
});

test("the Caddyfiles for Compose and for a server differ only in the domain and the instances", () => {
  const normalizeSite = (text: string, names: [string, string]) =>
    text
      .slice(text.indexOf(`${names[0]} {`))
      .replace(names[0], "SITE")
      .replace(names[1], "INSTANCES")
      .replaceAll(/^\t*#.*\n/gm, "");
  const composeSite = normalizeSite(readCaddyfile(), [
    "{$PARLEY_DOMAIN}",
    "{$PARLEY_INSTANCES:parley-1:3000 parley-2:3000}",
  ]);
  expect(composeSite).toStartWith("SITE {");
  expect(composeSite).toContain("reverse_proxy INSTANCES {");
  expect(normalizeSite(readProxyFile("Caddyfile"), ["chat.example.com", "127.0.0.1:3001 127.0.0.1:3002"])).toBe(
    composeSite,
  );
});

test("Prometheus' configuration is valid and scrapes every instance with the metrics token", async () => {
  using folder = createFolder();
  const path = join(folder.path, "prometheus.yml");
  const tokenFile = join(folder.path, "metrics_token");
  writeFileSync(tokenFile, "token\n");
  const text = readFileSync(join(composeFolder, "prometheus/prometheus.yml"), "utf8");
  expect(text).toContain("credentials_file: /run/secrets/metrics_token\n");
  const checkCommand = [findProgram("promtool"), "check", "config", "--lint-fatal", path];
  const alerts = join(monitoringFolder, "alerts.yml");
  writeFileSync(path, text.replace("/run/secrets/metrics_token", tokenFile).replace("/etc/parley/alerts.yml", alerts));
  expect(await runProgram(checkCommand)).toMatchObject({ code: 0, output: expect.stringContaining("SUCCESS") });
  writeFileSync(path, text.replace("scrape_interval", "scrape_intervall"));
  expect((await runProgram(checkCommand)).code).toBe(1);

  const [config] = readYaml(join(composeFolder, "prometheus/prometheus.yml")) as [
    { scrape_configs: { job_name: string; static_configs: { targets: string[] }[] }[] },
  ];
  const job = config.scrape_configs.find(({ job_name }) => job_name === "parley");
  expect(job?.static_configs.flatMap(({ targets }) => targets)).toEqual(instances);
  expect(production.services.prometheus?.secrets).toEqual(["metrics_token"]);
  expect(production.services.prometheus?.volumes).toContain("../monitoring/alerts.yml:/etc/parley/alerts.yml:ro");
});

test("Grafana is provisioned with Prometheus as its data source and with the dashboard", () => {
  const [dataSourceConfig] = readYaml(join(composeFolder, "grafana/prometheus.yaml")) as [
    { apiVersion: number; datasources: { type: string; url: string; isDefault: boolean }[] },
  ];
  expect(dataSourceConfig).toMatchObject({
    apiVersion: 1,
    datasources: [{ type: "prometheus", url: "http://prometheus:9090", isDefault: true }],
  });
  const { volumes = [], networks } = production.services.grafana ?? {};
  expect(volumes).toContain("./grafana:/etc/grafana/provisioning/datasources:ro");
  expect(Object.keys(networks ?? {})).toEqual(production.services.prometheus?.networks as string[]);
  const [provider] = readYaml(join(monitoringFolder, "dashboards.yaml")) as [
    { providers: { options: { path: string } }[] },
  ];
  const folder = provider.providers[0]?.options.path;
  expect(volumes).toContain(`../monitoring/parley-dashboard.json:${folder}/parley.json:ro`);
});
