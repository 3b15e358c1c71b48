import { expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseEnv } from "node:util";
import { Deployment, type IDeployment } from "kubernetes-models/apps/v1/Deployment";
import { type IIngress, Ingress } from "kubernetes-models/networking.k8s.io/v1/Ingress";
import { type IPodDisruptionBudget, PodDisruptionBudget } from "kubernetes-models/policy/v1/PodDisruptionBudget";
import { ConfigMap, type IConfigMap } from "kubernetes-models/v1/ConfigMap";
import { type INamespace, Namespace } from "kubernetes-models/v1/Namespace";
import { type IService, Service } from "kubernetes-models/v1/Service";
import { settingEntries } from "../../src/config/settings.ts";
import { EXTRA_CONNECTIONS_MAX } from "../../src/db/connect.ts";
import { createFolder, runParley } from "../commands/run-parley.ts";
import { deployFolder, readYaml } from "./yaml-file.ts";

// Starts the type checker, and Parley.
setDefaultTimeout(60_000);

type Kinds = {
  Namespace: INamespace;
  ConfigMap: IConfigMap;
  Deployment: IDeployment;
  Service: IService;
  PodDisruptionBudget: IPodDisruptionBudget;
  Ingress: IIngress;
};

const folder = join(deployFolder, "kubernetes");
const manifests = readYaml(join(folder, "parley.yaml")) as Kinds[keyof Kinds][];
const packages = join(import.meta.dir, "../../node_modules");

/** The only manifest of a kind. */
function get<Kind extends keyof Kinds>(kind: Kind): Kinds[Kind] {
  const found = manifests.filter((manifest) => manifest.kind === kind);
  expect(found).toHaveLength(1);
  return found[0] as Kinds[Kind];
}

const spec = get("Deployment").spec;
const pod = spec?.template.spec;
const container = pod?.containers[0];
const settings = get("ConfigMap").data ?? {};
/** PostgreSQL's default, minus the connections reserved for superusers. */
const POSTGRES_CONNECTIONS = 97;

test("every manifest matches Kubernetes' schema", () => {
  const kinds = [Namespace, ConfigMap, Deployment, Service, PodDisruptionBudget, Ingress];
  expect(manifests.map(({ kind }) => kind as string).sort()).toEqual(kinds.map(({ kind }) => kind as string).sort());
  new Namespace(get("Namespace")).validate();
  new ConfigMap(get("ConfigMap")).validate();
  new Deployment(get("Deployment")).validate();
  new Service(get("Service")).validate();
  new PodDisruptionBudget(get("PodDisruptionBudget")).validate();
  new Ingress(get("Ingress")).validate();
  const wrong = { ...get("Deployment"), spec: { ...spec, replicas: "2" } } as unknown as IDeployment;
  expect(() => new Deployment(wrong).validate()).toThrow("replicas must be integer");
});

/** The schema accepts unknown fields, so a typo would have no effect; the types from the same source don't. */
test("no manifest has unknown fields", async () => {
  using work = createFolder();
  const check = async (name: string, checked: Kinds[keyof Kinds][]) => {
    const lines = checked.flatMap((manifest, index) => [
      `import type { I${manifest.kind} as Kind${index} } from "${packages}/kubernetes-models/${manifest.apiVersion}/${manifest.kind}.js";`,
      `export const manifest${index}: Kind${index} = ${JSON.stringify(manifest)};`,
    ]);
    const path = join(work.path, name);
    writeFileSync(path, lines.join("\n"));
    const command = [
      join(packages, ".bin/tsc"),
      "--ignoreConfig",
      "--noEmit",
      "--strict",
      "--skipLibCheck",
      "--types",
      "",
      "--module",
      "esnext",
      "--moduleResolution",
      "bundler",
      path,
    ];
    const tsc = Bun.spawn(command, { stdout: "pipe", stderr: "pipe" });
    return (await new Response(tsc.stdout).text()) + (await new Response(tsc.stderr).text());
  };
  const misspelled = { ...get("Deployment"), spec: { ...spec, replicaz: 2 } } as unknown as IDeployment;
  const [good, bad] = await Promise.all([check("good.ts", manifests), check("bad.ts", [misspelled])]);
  expect(good).toBe("");
  expect(bad).toMatch(/replicaz.* does not exist in type/);
});

test("a pod has more time to stop than Parley takes, and than its endpoints take to update", () => {
  const shutdownMs = Number(settings.SHUTDOWN_TIMEOUT_MS);
  expect(shutdownMs).toBeGreaterThanOrEqual(25_000);
  expect(Number(pod?.terminationGracePeriodSeconds) * 1_000).toBeGreaterThanOrEqual(shutdownMs + 10_000);
  // The readiness probe fails while Parley still serves (5 seconds in production).
  const { periodSeconds = 10, failureThreshold = 3 } = container?.readinessProbe ?? {};
  expect(Number(periodSeconds) * Number(failureThreshold)).toBeLessThanOrEqual(5);
});

test("each probe uses the right endpoint", () => {
  expect(container?.startupProbe?.httpGet).toEqual({ path: "/livez", port: "http" });
  expect(container?.readinessProbe?.httpGet).toEqual({ path: "/readyz", port: "http" });
  expect(container?.livenessProbe?.httpGet).toEqual({ path: "/livez", port: "http" });
  expect(container?.ports).toEqual([{ name: "http", containerPort: 3000 }]);
  expect(settings.PORT ?? "3000").toBe("3000");
});

test("two instances, one of which is always running, without session affinity", () => {
  expect(spec?.replicas).toBe(2);
  expect(spec?.strategy).toEqual({ type: "RollingUpdate", rollingUpdate: { maxUnavailable: 0, maxSurge: 1 } });
  const labels = spec?.template.metadata?.labels;
  expect(spec?.selector.matchLabels).toEqual(labels);
  expect(get("PodDisruptionBudget").spec).toEqual({ minAvailable: 1, selector: { matchLabels: labels } });
  expect(get("Service").spec).toMatchObject({
    selector: labels,
    sessionAffinity: "None",
    ports: [{ targetPort: "http" }],
  });
  expect(JSON.stringify(get("Ingress").metadata)).not.toContain("affinity");
  expect(get("Ingress").spec?.rules?.[0]?.http?.paths[0]?.backend.service?.name).toBe(
    get("Service").metadata?.name as string,
  );
});

test("the instances during an upgrade don't exceed a default Postgres' connections", () => {
  const instances = Number(spec?.replicas) + 1;
  const each = Number(settings.DATABASE_POOL_SIZE) + EXTRA_CONNECTIONS_MAX;
  expect(instances * each).toBeLessThanOrEqual(POSTGRES_CONNECTIONS);
});

test("the pod meets the restricted standard of its namespace", () => {
  expect(get("Namespace").metadata?.labels).toMatchObject({ "pod-security.kubernetes.io/enforce": "restricted" });
  expect(pod?.securityContext).toMatchObject({
    runAsNonRoot: true,
    runAsUser: 10001,
    seccompProfile: { type: "RuntimeDefault" },
  });
  expect(container?.securityContext).toEqual({
    allowPrivilegeEscalation: false,
    readOnlyRootFilesystem: true,
    capabilities: { drop: ["ALL"] },
  });
  expect(pod?.automountServiceAccountToken).toBe(false);
  expect(container?.volumeMounts?.map(({ mountPath }) => mountPath)).toEqual(["/data", "/tmp"]);
  expect(readFileSync(join(deployFolder, "../Dockerfile"), "utf8")).toContain(
    `USER ${pod?.securityContext?.runAsUser}:`,
  );
});

test("Parley starts with these settings: parley config check", async () => {
  const secrets = parseEnv(readFileSync(join(folder, "parley.secrets.env.example"), "utf8")) as Record<string, string>;
  const required = (container?.env ?? []).map(({ name, valueFrom }) => {
    expect(valueFrom?.secretKeyRef).toEqual({ name: "parley", key: name });
    return name;
  });
  expect(required).toEqual(["JWT_SECRET", "DATABASE_URL", "METRICS_TOKEN"]);
  expect(container?.envFrom).toEqual([{ configMapRef: { name: "parley" } }, { secretRef: { name: "parley" } }]);
  for (const name of required) expect(secrets).toHaveProperty(name);

  const known = new Map(settingEntries);
  for (const name of Object.keys(settings))
    expect({ name, isSecret: known.get(name as never)?.secret ?? false }).toEqual({ name, isSecret: false });
  for (const name of Object.keys(secrets))
    expect({ name, isSecret: known.get(name as never)?.secret }).toEqual({ name, isSecret: true });

  const made = { JWT_SECRET: "k3yQ0ZrV8mXw2LsT9bNc4HgJ7pFd1AuE6iRoSxBtYnM=", METRICS_TOKEN: "0".repeat(64) };
  const env = { ...settings, ...secrets, ...made };
  expect(await runParley(["config", "check"], { env })).toEqual({
    code: 0,
    stdout: "The configuration is valid.\n",
    stderr: "",
  });
  expect((await runParley(["config", "check"], { env: settings })).stderr).toContain(
    "JWT_SECRET: required in production",
  );
});
