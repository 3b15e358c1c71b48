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

// These tests start the type checker and Parley.
setDefaultTimeout(60_000);

type ManifestTypes = {
  Namespace: INamespace;
  ConfigMap: IConfigMap;
  Deployment: IDeployment;
  Service: IService;
  PodDisruptionBudget: IPodDisruptionBudget;
  Ingress: IIngress;
};

const kubernetesFolder = join(deployFolder, "kubernetes");
const manifests = readYaml(join(kubernetesFolder, "parley.yaml")) as ManifestTypes[keyof ManifestTypes][];
const packagesDir = join(import.meta.dir, "../../node_modules");

/** Returns the only manifest of a kind. */
function getManifest<Kind extends keyof ManifestTypes>(kind: Kind): ManifestTypes[Kind] {
  const matchingManifests = manifests.filter((manifest) => manifest.kind === kind);
  expect(matchingManifests).toHaveLength(1);
  return matchingManifests[0] as ManifestTypes[Kind];
}

const spec = getManifest("Deployment").spec;
const pod = spec?.template.spec;
const container = pod?.containers[0];
const settings = getManifest("ConfigMap").data ?? {};
/** PostgreSQL's default `max_connections`, minus the connections reserved for superusers. */
const POSTGRES_CONNECTIONS = 97;

test("every manifest matches Kubernetes' schema", () => {
  const manifestClasses = [Namespace, ConfigMap, Deployment, Service, PodDisruptionBudget, Ingress];
  expect(manifests.map(({ kind }) => kind as string).sort()).toEqual(
    manifestClasses.map(({ kind }) => kind as string).sort(),
  );
  new Namespace(getManifest("Namespace")).validate();
  new ConfigMap(getManifest("ConfigMap")).validate();
  new Deployment(getManifest("Deployment")).validate();
  new Service(getManifest("Service")).validate();
  new PodDisruptionBudget(getManifest("PodDisruptionBudget")).validate();
  new Ingress(getManifest("Ingress")).validate();
  const invalidDeployment = {
    ...getManifest("Deployment"),
    spec: { ...spec, replicas: "2" },
  } as unknown as IDeployment;
  expect(() => new Deployment(invalidDeployment).validate()).toThrow("replicas must be integer");
});

/** The package's schemas accept unknown fields, such as typos, but its TypeScript types reject them. */
test("no manifest has unknown fields", async () => {
  using tempFolder = createFolder();
  const checkTypes = async (name: string, manifestsToCheck: ManifestTypes[keyof ManifestTypes][]) => {
    const lines = manifestsToCheck.flatMap((manifest, index) => [
      `import type { I${manifest.kind} as Kind${index} } from "${packagesDir}/kubernetes-models/${manifest.apiVersion}/${manifest.kind}.js";`,
      `export const manifest${index}: Kind${index} = ${JSON.stringify(manifest)};`,
    ]);
    const path = join(tempFolder.path, name);
    writeFileSync(path, lines.join("\n"));
    const command = [
      join(packagesDir, ".bin/tsc"),
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
  const misspelledDeployment = {
    ...getManifest("Deployment"),
    spec: { ...spec, replicaz: 2 },
  } as unknown as IDeployment;
  const [validErrors, misspelledErrors] = await Promise.all([
    checkTypes("valid.ts", manifests),
    checkTypes("invalid.ts", [misspelledDeployment]),
  ]);
  expect(validErrors).toBe("");
  expect(misspelledErrors).toMatch(/replicaz.* does not exist in type/);
});

test("a pod's grace period exceeds Parley's shutdown timeout, and the pod is unready before Parley stops serving requests", () => {
  const shutdownMs = Number(settings.SHUTDOWN_TIMEOUT_MS);
  expect(shutdownMs).toBeGreaterThanOrEqual(25_000);
  expect(Number(pod?.terminationGracePeriodSeconds) * 1_000).toBeGreaterThanOrEqual(shutdownMs + 10_000);
  // In production, Parley still serves requests for 5 seconds after its readiness probe begins to fail.
  const { periodSeconds = 10, failureThreshold = 3 } = container?.readinessProbe ?? {};
  expect(Number(periodSeconds) * Number(failureThreshold)).toBeLessThanOrEqual(5);
});

test("the startup and liveness probes use /livez, and the readiness probe uses /readyz", () => {
  expect(container?.startupProbe?.httpGet).toEqual({ path: "/livez", port: "http" });
  expect(container?.readinessProbe?.httpGet).toEqual({ path: "/readyz", port: "http" });
  expect(container?.livenessProbe?.httpGet).toEqual({ path: "/livez", port: "http" });
  expect(container?.ports).toEqual([{ name: "http", containerPort: 3000 }]);
  expect(settings.PORT ?? "3000").toBe("3000");
});

test("two instances run without session affinity, and at least one is always available", () => {
  expect(spec?.replicas).toBe(2);
  expect(spec?.strategy).toEqual({ type: "RollingUpdate", rollingUpdate: { maxUnavailable: 0, maxSurge: 1 } });
  const labels = spec?.template.metadata?.labels;
  expect(spec?.selector.matchLabels).toEqual(labels);
  expect(getManifest("PodDisruptionBudget").spec).toEqual({ minAvailable: 1, selector: { matchLabels: labels } });
  expect(getManifest("Service").spec).toMatchObject({
    selector: labels,
    sessionAffinity: "None",
    ports: [{ targetPort: "http" }],
  });
  expect(JSON.stringify(getManifest("Ingress").metadata)).not.toContain("affinity");
  expect(getManifest("Ingress").spec?.rules?.[0]?.http?.paths[0]?.backend.service?.name).toBe(
    getManifest("Service").metadata?.name as string,
  );
});

test("the instances running during an upgrade don't exceed Postgres' default connection limit", () => {
  const instances = Number(spec?.replicas) + 1;
  const connectionsPerInstance = Number(settings.DATABASE_POOL_SIZE) + EXTRA_CONNECTIONS_MAX;
  expect(instances * connectionsPerInstance).toBeLessThanOrEqual(POSTGRES_CONNECTIONS);
});

test("the pod meets the restricted Pod Security Standard that its namespace enforces", () => {
  expect(getManifest("Namespace").metadata?.labels).toMatchObject({
    "pod-security.kubernetes.io/enforce": "restricted",
  });
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

test("`parley config check` accepts the manifests' settings", async () => {
  const secrets = parseEnv(readFileSync(join(kubernetesFolder, "parley.secrets.env.example"), "utf8")) as Record<
    string,
    string
  >;
  const requiredNames = (container?.env ?? []).map(({ name, valueFrom }) => {
    expect(valueFrom?.secretKeyRef).toEqual({ name: "parley", key: name });
    return name;
  });
  expect(requiredNames).toEqual(["JWT_SECRET", "DATABASE_URL", "METRICS_TOKEN"]);
  expect(container?.envFrom).toEqual([{ configMapRef: { name: "parley" } }, { secretRef: { name: "parley" } }]);
  for (const name of requiredNames) expect(secrets).toHaveProperty(name);

  const settingsByName = new Map(settingEntries);
  for (const name of Object.keys(settings))
    expect({ name, isSecret: settingsByName.get(name as never)?.secret ?? false }).toEqual({
      name,
      isSecret: false,
    });
  for (const name of Object.keys(secrets))
    expect({ name, isSecret: settingsByName.get(name as never)?.secret }).toEqual({ name, isSecret: true });

  const generatedSecrets = {
    JWT_SECRET: "k3yQ0ZrV8mXw2LsT9bNc4HgJ7pFd1AuE6iRoSxBtYnM=",
    METRICS_TOKEN: "0".repeat(64),
  };
  const env = { ...settings, ...secrets, ...generatedSecrets };
  expect(await runParley(["config", "check"], { env })).toEqual({
    code: 0,
    stdout: "The configuration is valid.\n",
    stderr: "",
  });
  expect((await runParley(["config", "check"], { env: settings })).stderr).toContain(
    "JWT_SECRET: required in production",
  );
});
