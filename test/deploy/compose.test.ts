import { expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Ajv } from "ajv";
import schema from "../../node_modules/dclint/schemas/compose.schema.json";
import { settingEntries } from "../../src/config/settings.ts";
import { createFolder, runParley } from "../commands/run-parley.ts";
import {
  type ComposeFile,
  composeFolder,
  parseDurationMs,
  readCompose,
  readExampleEnv,
  type Service,
} from "./compose-file.ts";
import { readYaml } from "./yaml-file.ts";

// These tests start several processes.
setDefaultTimeout(30_000);

const environments = ["development", "staging", "production"] as const;
const deployedEnvironments = ["staging", "production"] as const;

const readComposeFile = (environment: string) =>
  readCompose(environment, environment === "development" ? {} : readExampleEnv(environment));
const listServices = (environment: string) => Object.entries(readComposeFile(environment).services);
const listInstances = (environment: string) => listServices(environment).filter(([name]) => name.startsWith("parley"));
const listNetworkNames = ({ networks = [] }: Service) => (Array.isArray(networks) ? networks : Object.keys(networks));

// validateSchema is off because Ajv doesn't know the meta-schema at the schema's $schema URL.
const validateCompose = new Ajv({
  strict: false,
  allErrors: true,
  validateFormats: false,
  validateSchema: false,
}).compile(schema);

test.each(environments)("compose.%s.yaml matches the Compose Specification's schema", (environment) => {
  validateCompose(readYaml(join(composeFolder, `compose.${environment}.yaml`))[0]);
  expect(validateCompose.errors).toBeNull();
  validateCompose(readComposeFile(environment));
  expect(validateCompose.errors).toBeNull();
});

test("the Compose Specification's schema rejects unknown fields and values", () => {
  const file = readComposeFile("production");
  const caddy = file.services.caddy as Service;
  expect(validateCompose({ ...file, services: { caddy: { ...caddy, stop_grace_priod: "20s" } } })).toBe(false);
  expect(
    validateCompose({ ...file, services: { caddy: { ...caddy, depends_on: { postgres: { condition: "ready" } } } } }),
  ).toBe(false);
  expect(validateCompose({ ...file, services: { caddy: { ...caddy, read_only: { yes: 1 } } } })).toBe(false);
});

test.each(deployedEnvironments)("compose.%s.yaml reports every missing variable", (environment) => {
  const example = readExampleEnv(environment);
  for (const name of ["PARLEY_IMAGE", "PARLEY_DOMAIN", "ACME_EMAIL"])
    expect(() => readCompose(environment, { ...example, [name]: undefined })).toThrow(`Set ${name} to`);
});

test.each(environments)(
  "in compose.%s.yaml, all networks, secrets and volumes are declared and used",
  (environment) => {
    const file = readComposeFile(environment);
    for (const [name, service] of Object.entries(file.services)) {
      const references = {
        services: Object.keys(service.depends_on ?? {}),
        networks: listNetworkNames(service),
        secrets: service.secrets ?? [],
        volumes: (service.volumes ?? [])
          .map((volume) => volume.split(":")[0] ?? "")
          .filter((source) => !/^[./]/.test(source)),
      };
      for (const [kind, names] of Object.entries(references)) {
        const declaredNames = Object.keys(file[kind as keyof typeof references] ?? {});
        expect({ name, kind, missing: names.filter((reference) => !declaredNames.includes(reference)) }).toEqual({
          name,
          kind,
          missing: [],
        });
      }
      const mounts = (service.volumes ?? [])
        .map((volume) => volume.split(":"))
        .filter(([source = ""]) => source.startsWith("."));
      for (const [source = "", , mode] of mounts) {
        expect(existsSync(join(composeFolder, source))).toBe(true);
        expect(mode).toBe("ro");
      }
      // A service must have a health check if another service waits until it is healthy.
      for (const [dependency, { condition }] of Object.entries(service.depends_on ?? {}))
        if (condition === "service_healthy") expect(file.services[dependency]?.healthcheck).toBeDefined();
    }
    const services = Object.values(file.services);
    for (const kind of ["networks", "secrets", "volumes"] as const)
      for (const name of Object.keys(file[kind] ?? {}))
        expect({ name, isUsed: JSON.stringify(services.map((service) => service[kind])).includes(name) }).toEqual({
          name,
          isUsed: true,
        });
  },
);

test.each(environments)(
  "every service in compose.%s.yaml has a health check, a sufficient stop grace period and a pinned image",
  (environment) => {
    for (const [name, service] of listServices(environment)) {
      expect(service.healthcheck?.test[0]).toMatch(/^CMD/);
      expect(parseDurationMs(service.stop_grace_period ?? "")).toBeGreaterThanOrEqual(10_000);
      expect({ name, image: service.image }).toEqual({ name, image: expect.stringMatching(/^[\w./-]+:[\w.-]+$/) });
      expect(service.image).not.toEndWith(":latest");
    }
  },
);

test.each(deployedEnvironments)(
  "every service in compose.%s.yaml has resource limits, log rotation and minimal privileges",
  (environment) => {
    for (const [name, service] of listServices(environment)) {
      expect({ name, ...service }).toMatchObject({
        name,
        read_only: true,
        cap_drop: ["ALL"],
        security_opt: ["no-new-privileges:true"],
        restart: "unless-stopped",
        logging: {
          driver: "json-file",
          options: { "max-size": expect.stringMatching(/^\d+m$/), "max-file": expect.any(String) },
        },
      });
      expect({ name, added: service.cap_add ?? [] }).toEqual({
        name,
        added: name === "caddy" ? ["NET_BIND_SERVICE"] : [],
      });
      const limits = service.deploy?.resources.limits;
      expect({
        name,
        cpus: Number(limits?.cpus) > 0,
        memory: /^\d+[mg]$/.test(limits?.memory ?? ""),
        pids: Number(limits?.pids) > 0,
      }).toEqual({
        name,
        cpus: true,
        memory: true,
        pids: true,
      });
    }
  },
);

test.each(deployedEnvironments)(
  "in compose.%s.yaml, only Caddy publishes ports, and only Caddy and Parley have internet access",
  (environment) => {
    const file = readComposeFile(environment);
    const publishedServices = listServices(environment).filter(([, { ports }]) => ports !== undefined);
    expect(publishedServices.map(([name, { ports }]) => [name, ports])).toEqual([
      ["caddy", ["80:80", "443:443", "443:443/udp"]],
    ]);
    const isInternal = (network: string) => file.networks?.[network]?.internal === true;
    for (const [name, service] of Object.entries(file.services)) {
      const hasInternetAccess = listNetworkNames(service).some((network) => !isInternal(network));
      expect({ name, hasInternetAccess }).toEqual({
        name,
        hasInternetAccess: name === "caddy" || name.startsWith("parley"),
      });
    }
    expect(listNetworkNames(file.services.caddy as Service)).toEqual(["edge"]);
  },
);

test.each(deployedEnvironments)("in compose.%s.yaml, Parley trusts X-Forwarded-For only from Caddy", (environment) => {
  const file = readComposeFile(environment);
  const { edge } = file.networks ?? {};
  const { subnet = "", ip_range: range = "" } = edge?.ipam?.config[0] ?? {};
  const networks = file.services.caddy?.networks as Record<string, { ipv4_address?: string }>;
  const caddyAddress = networks.edge?.ipv4_address ?? "";
  for (const [, service] of listInstances(environment)) expect(service.environment?.TRUSTED_PROXIES).toBe(caddyAddress);
  // Caddy's address is in the subnet, but outside the range from which Docker assigns addresses.
  const getLastOctet = (text: string) => Number(text.split("/")[0]?.split(".")[3]);
  expect(subnet).toBe(`${caddyAddress.replace(/\.\d+$/, "")}.${getLastOctet(subnet)}/28`);
  expect(range).toBe(`${caddyAddress.replace(/\.\d+$/, "")}.${getLastOctet(subnet) + 8}/29`);
  expect(getLastOctet(caddyAddress) - getLastOctet(subnet)).toBeWithin(2, 8);
});

test.each(environments)(
  "in compose.%s.yaml, Parley's stop grace period exceeds its shutdown timeout",
  (environment) => {
    const instances = listInstances(environment);
    expect(instances).toHaveLength(environment === "development" ? 1 : 2);
    for (const [, service] of instances) {
      const defaultMs = settingEntries.find(([name]) => name === "SHUTDOWN_TIMEOUT_MS")?.[1].default;
      const timeoutMs = Number(service.environment?.SHUTDOWN_TIMEOUT_MS ?? defaultMs);
      // Without a database server, the embedded Postgres also needs time to stop.
      const marginMs = service.environment?.DATABASE_URL_FILE ? 5_000 : 15_000;
      expect(parseDurationMs(service.stop_grace_period ?? "")).toBeGreaterThanOrEqual(timeoutMs + marginMs);
    }
  },
);

test("the production instances have the same configuration", () => {
  const [firstInstance, secondInstance] = listInstances("production");
  expect(firstInstance?.[1]).toEqual(secondInstance?.[1] as Service);
});

test("staging differs from production only in monitoring, names, addresses and limits", () => {
  const production = readComposeFile("production");
  const staging = readComposeFile("staging");
  const monitoring = ["prometheus", "grafana"];
  expect(Object.keys(staging.services)).toEqual(
    Object.keys(production.services).filter((name) => !monitoring.includes(name)),
  );
  const normalize = (service: Service, { environment = {}, ...otherFields } = service) => ({
    ...otherFields,
    deploy: undefined,
    networks: listNetworkNames(service).filter((network) => network !== "monitoring"),
    env_file: undefined,
    environment: { ...environment, APP_ENV: "", PUBLIC_URL: "", PARLEY_DOMAIN: "", TRUSTED_PROXIES: "" },
  });
  for (const [name, service] of Object.entries(staging.services))
    expect(normalize(service)).toEqual(normalize(production.services[name] as Service));
});

test.each(environments)(
  "`parley config check` accepts the settings of each instance in compose.%s.yaml",
  async (environment) => {
    using folder = createFolder();
    const file = readComposeFile(environment);
    const secrets = createSecrets(folder.path);
    const knownNames = new Set(
      settingEntries.flatMap(([name, { secret }]) => (secret ? [name, `${name}_FILE`] : [name])),
    );
    const checks = listInstances(environment).map(async ([, { environment: settings = {} }]) => {
      expect(Object.keys(settings).filter((name) => !knownNames.has(name))).toEqual([]);
      // A secret that isn't in a file would be visible in `docker inspect`.
      const inlineSecrets = settingEntries.filter(([name, { secret }]) => secret && settings[name] !== undefined);
      if (environment !== "development") expect(inlineSecrets.map(([name]) => name)).toEqual([]);
      const env = resolveSecretPaths(settings, file, secrets);
      const [checkResult, printResult] = await Promise.all([
        runParley(["config", "check"], { cwd: folder.path, env }),
        runParley(["config"], { cwd: folder.path, env }),
      ]);
      expect(checkResult).toEqual({ code: 0, stdout: "The configuration is valid.\n", stderr: "" });
      expect(printResult.stdout).toMatch(new RegExp(`^APP_ENV=${environment} `, "m"));
      if (environment === "development") return;
      expect(printResult.stdout).toMatch(/^REGISTRATION=closed /m);
      for (const name of ["DATABASE_URL", "REDIS_URL"])
        expect(printResult.stdout).toMatch(new RegExp(`^${name}=\\w+://\\*{8}@\\S+ +# ${name}_FILE$`, "m"));
      for (const name of ["JWT_SECRET", "METRICS_TOKEN"])
        expect(printResult.stdout).toMatch(new RegExp(`^${name}=\\*{8} +# ${name}_FILE$`, "m"));
    });
    await Promise.all(checks);
  },
);

test("compose.development.yaml can use a database server instead of the embedded Postgres", async () => {
  using folder = createFolder();
  const url = "postgres://parley:parley@postgres:5432/parley";
  const { services } = readCompose("development", { DATABASE_URL: url });
  const text = readFileSync(join(composeFolder, "compose.development.yaml"), "utf8");
  expect(text).toContain(`DATABASE_URL=${url} docker compose`);
  const { code } = await runParley(["config", "check"], { cwd: folder.path, env: services.parley?.environment });
  expect(code).toBe(0);
  const { POSTGRES_USER, POSTGRES_PASSWORD } = services.postgres?.environment ?? {};
  expect(url).toContain(`//${POSTGRES_USER}:${POSTGRES_PASSWORD}@postgres`);
});

test("make-secrets.sh creates every secret that the compose files use, and keeps existing secrets", () => {
  using folder = createFolder();
  const secrets = createSecrets(folder.path);
  const names = deployedEnvironments.flatMap((environment) =>
    Object.values(readComposeFile(environment).secrets ?? {}).map(({ file }) => file.split("/").at(-1) ?? ""),
  );
  const contents = new Map(names.map((name) => [name, readFileSync(join(secrets, name), "utf8")]));
  expect(contents.size).toBe(10);
  // Containers run as different users, so every user can read the files. The folder's mode keeps other users of the
  // machine out.
  for (const name of names) expect(statSync(join(secrets, name)).mode & 0o777).toBe(0o644);
  expect(statSync(secrets).mode & 0o777).toBe(0o700);

  writeFileSync(join(secrets, "openai_api_key"), "sk-own\n", { mode: 0o600 });
  createSecrets(folder.path);
  for (const [name, content] of contents)
    if (name !== "openai_api_key") expect(readFileSync(join(secrets, name), "utf8")).toBe(content);
  expect(readFileSync(join(secrets, "openai_api_key"), "utf8")).toBe("sk-own\n");

  const randomSecrets = [
    "jwt_secret",
    "metrics_token",
    "postgres_password",
    "postgres_superuser_password",
    "grafana_admin_password",
  ];
  for (const name of randomSecrets) expect(contents.get(name)).toMatch(/^[0-9a-f]{64}\n$/);
  expect(new Set(randomSecrets.map((name) => contents.get(name))).size).toBe(randomSecrets.length);
  expect(contents.get("database_url")).toBe(
    `postgres://parley:${contents.get("postgres_password")?.trim()}@postgres:5432/parley\n`,
  );
  expect(contents.get("redis_url")).toBe(`redis://:${contents.get("valkey_conf")?.trim().split(" ")[1]}@valkey:6379\n`);
});

test("Git ignores the secrets next to the compose files", () => {
  const checkIgnore = Bun.spawnSync(
    ["git", "check-ignore", "secrets/jwt_secret", "secrets/staging/jwt_secret", "production.env", "staging.env"],
    {
      cwd: composeFolder,
    },
  );
  expect(checkIgnore.stdout.toString().trim().split("\n")).toHaveLength(4);
});

/** Runs make-secrets.sh. @returns the folder with the secrets. */
function createSecrets(parent: string): string {
  const secrets = join(parent, "secrets");
  const { exitCode, stderr } = Bun.spawnSync(["sh", join(composeFolder, "make-secrets.sh"), secrets]);
  expect({ exitCode, stderr: stderr.toString() }).toEqual({ exitCode: 0, stderr: "" });
  return secrets;
}

/** Replaces paths in /run/secrets with the paths of the secrets on this machine. */
function resolveSecretPaths(
  settings: Record<string, string>,
  file: ComposeFile,
  secrets: string,
): Record<string, string> {
  const toLocalPath = (value: string) => {
    const name = /^\/run\/secrets\/(\w+)$/.exec(value)?.[1];
    if (name === undefined) return value;
    expect(Object.keys(file.secrets ?? {})).toContain(name);
    return join(secrets, name);
  };
  return Object.fromEntries(Object.entries(settings).map(([name, value]) => [name, toLocalPath(value)]));
}
