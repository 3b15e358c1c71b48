import { expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createFolder, findFreePort } from "../commands/run-parley.ts";
import { monitoringFolder } from "../deploy/compose-file.ts";
import { findProgram } from "../deploy/programs.ts";
import { startMockProvider } from "../support/mock-provider/server.ts";
import { waitUntil } from "../support/wait-until.ts";
import { openChat } from "./chat.ts";
import { createInstallation, TEST_TIMEOUT_MS } from "./installation.ts";

setDefaultTimeout(TEST_TIMEOUT_MS);

const TOKEN = "token-for-metrics";

type Alert = { state: string; labels: { alertname: string }; annotations: { summary: string } };

/** Starts Prometheus with the configuration in deploy/monitoring, but with intervals of one second. */
async function startPrometheus(folder: string, target: string) {
  const readConfigFile = (name: string) => readFileSync(join(monitoringFolder, name), "utf8");
  const config = readConfigFile("prometheus.yml")
    .replaceAll("15s", "1s")
    .replace("10s", "1s")
    .replace("localhost:3000", target);
  writeFileSync(join(folder, "prometheus.yml"), config);
  writeFileSync(join(folder, "alerts.yml"), readConfigFile("alerts.yml").replaceAll(/for: \d+m/g, "for: 1s"));
  writeFileSync(join(folder, "metrics_token"), TOKEN);
  const port = findFreePort();
  const flags = [`--config.file=${folder}/prometheus.yml`, `--storage.tsdb.path=${folder}/data`];
  const child = Bun.spawn([findProgram("prometheus"), ...flags, `--web.listen-address=127.0.0.1:${port}`], {
    stdio: ["ignore", "ignore", "ignore"],
  });
  const queryApi = async (path: string) => {
    const response = await fetch(`http://127.0.0.1:${port}/api/v1/${path}`).catch(() => null);
    return response?.ok ? ((await response.json()) as { data: never }).data : null;
  };
  await waitUntil(async () => (await queryApi("targets")) !== null);
  return {
    query: queryApi,
    async listFiringAlerts(): Promise<{ alert: string; summary: string }[]> {
      const data = (await queryApi("alerts")) as { alerts: Alert[] } | null;
      const firingAlerts = data?.alerts.filter(({ state }) => state === "firing") ?? [];
      return firingAlerts.map(({ labels, annotations }) => ({ alert: labels.alertname, summary: annotations.summary }));
    },
    async stop() {
      child.kill("SIGKILL");
      await child.exited;
    },
  };
}

test("Prometheus scrapes Parley, and alerts when a model's provider fails", async () => {
  using folder = createFolder();
  const mockProvider = startMockProvider();
  const env = { COMPATIBLE_BASE_URL: mockProvider.openaiUrl, AI_MODELS: "compatible/one", AI_MAX_RETRIES: "0" };
  const installation = await createInstallation({ env: { ...env, METRICS_TOKEN: TOKEN } });
  const parley = await installation.start();
  const prometheus = await startPrometheus(folder.path, new URL(parley.url).host);
  try {
    type Target = { health: string; scrapePool: string };
    await waitUntil(async () => {
      const data = (await prometheus.query("targets")) as { activeTargets: Target[] } | null;
      return data?.activeTargets.some(({ health, scrapePool }) => health === "up" && scrapePool === "parley") ?? false;
    });
    const rules = (await prometheus.query("rules")) as unknown as { groups: { rules: { health: string }[] }[] };
    expect(rules.groups.flatMap((group) => group.rules).length).toBeGreaterThan(15);
    const isModelAvailable = async () =>
      !(await prometheus.listFiringAlerts()).some(({ alert }) => alert === "ParleyNoModelAvailable");
    expect(await isModelAvailable()).toBe(true);

    mockProvider.script("one", { fault: "status", status: 503, faultCount: 3 });
    const chat = await openChat(parley);
    for (let questions = 0; questions < 3; questions += 1) await chat.waitForAnswer(await chat.requestAnswer());
    await waitUntil(async () => !(await isModelAvailable()));
    expect(await prometheus.listFiringAlerts()).toContainEqual({
      alert: "ParleyModelUnavailable",
      summary: "No instance can use the model compatible/one.",
    });

    // The model is available again after the circuit breaker's first cool-down.
    await waitUntil(isModelAvailable, 40_000);
    await parley.kill();
    await waitUntil(async () => (await prometheus.listFiringAlerts()).some(({ alert }) => alert === "ParleyDown"));
  } finally {
    await prometheus.stop();
    await installation.remove();
    await mockProvider.stop();
  }
});
