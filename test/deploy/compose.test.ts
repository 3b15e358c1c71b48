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
  readExample,
  type Service,
} from "./compose-file.ts";
import { readYaml } from "./yaml-file.ts";

// Starts several processes.
setDefaultTimeout(30_000);

const environments = ["development", "staging", "production"] as const;
const served = ["staging", "production"] as const;

const read = (environment: string) =>
  readCompose(environment, environment === "development" ? {} : readExample(environment));
const servicesOf = (environment: string) => Object.entries(read(environment).services);
const parleysOf = (environment: string) => servicesOf(environment).filter(([name]) => name.startsWith("parley"));
const networkNames = ({ networks = [] }: Service) => (Array.isArray(networks) ? networks : Object.keys(networks));

// Its $schema URL is not that of a JSON Schema meta-schema.
const validate = new Ajv({ strict: false, allErrors: true, validateFormats: false, validateSchema: false }).compile(
  schema,
);

test.each(environments)("compose.%s.yaml matches the Compose Specification's schema", (environment) => {
  validate(readYaml(join(composeFolder, `compose.${environment}.yaml`))[0]);
  expect(validate.errors).toBeNull();
  validate(read(environment));
  expect(validate.errors).toBeNull();
});

test("the schema rejects what Docker doesn't know", () => {
  const file = read("production");
  const caddy = file.services.caddy as Service;
  expect(validate({ ...file, services: { caddy: { ...caddy, stop_grace_priod: "20s" } } })).toBe(false);
  expect(
    validate({ ...file, services: { caddy: { ...caddy, depends_on: { postgres: { condition: "ready" } } } } }),
  ).toBe(false);
  expect(validate({ ...file, services: { caddy: { ...caddy, read_only: { yes: 1 } } } })).toBe(false);
});

test.each(served)("compose.%s.yaml reports every missing variable", (environment) => {
  const example = readExample(environment);
  for (const name of ["PARLEY_IMAGE", "PARLEY_DOMAIN", "ACME_EMAIL"])
    expect(() => readCompose(environment, { ...example, [name]: undefined })).toThrow(`Set ${name} to`);
});

test.each(environments)("in compose.%s.yaml, everything that a service refers to exists", (environment) => {
  const file = read(environment);
  for (const [name, service] of Object.entries(file.services)) {
    const named = {
      services: Object.keys(service.depends_on ?? {}),
      networks: networkNames(service),
      secrets: service.secrets ?? [],
      volumes: (service.volumes ?? [])
        .map((volume) => volume.split(":")[0] ?? "")
        .filter((source) => !/^[./]/.test(source)),
    };
    for (const [kind, names] of Object.entries(named)) {
      const declared = Object.keys(file[kind as keyof typeof named] ?? {});
      expect({ name, kind, missing: names.filter((one) => !declared.includes(one)) }).toEqual({
        name,
        kind,
        missing: [],
      });
    }
    const mounted = (service.volumes ?? [])
      .map((volume) => volume.split(":"))
      .filter(([source = ""]) => source.startsWith("."));
    for (const [source = "", , mode] of mounted) {
      expect(existsSync(join(composeFolder, source))).toBe(true);
      expect(mode).toBe("ro");
    }
    // A service that others wait for needs a health check.
    for (const [other, { condition }] of Object.entries(service.depends_on ?? {}))
      if (condition === "service_healthy") expect(file.services[other]?.healthcheck).toBeDefined();
  }
  const users = Object.values(file.services);
  for (const kind of ["networks", "secrets", "volumes"] as const)
    for (const name of Object.keys(file[kind] ?? {}))
      expect({ name, isUsed: JSON.stringify(users.map((service) => service[kind])).includes(name) }).toEqual({
        name,
        isUsed: true,
      });
});

test.each(environments)(
  "every service of compose.%s.yaml has a health check, a sufficient stop period and a pinned image",
  (environment) => {
    for (const [name, service] of servicesOf(environment)) {
      expect(service.healthcheck?.test[0]).toMatch(/^CMD/);
      expect(parseDurationMs(service.stop_grace_period ?? "")).toBeGreaterThanOrEqual(10_000);
      expect({ name, image: service.image }).toEqual({ name, image: expect.stringMatching(/^[\w./-]+:[\w.-]+$/) });
      expect(service.image).not.toEndWith(":latest");
    }
  },
);

test.each(served)("every service of compose.%s.yaml has limits, log rotation and minimal privileges", (environment) => {
  for (const [name, service] of servicesOf(environment)) {
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
});

test.each(served)(
  "in compose.%s.yaml only Caddy is reachable from outside, and the databases have no outgoing access",
  (environment) => {
    const file = read(environment);
    const published = servicesOf(environment).filter(([, { ports }]) => ports !== undefined);
    expect(published.map(([name, { ports }]) => [name, ports])).toEqual([
      ["caddy", ["80:80", "443:443", "443:443/udp"]],
    ]);
    const isInternal = (network: string) => file.networks?.[network]?.internal === true;
    for (const [name, service] of Object.entries(file.services)) {
      const hasWayOut = networkNames(service).some((network) => !isInternal(network));
      expect({ name, hasWayOut }).toEqual({ name, hasWayOut: name === "caddy" || name.startsWith("parley") });
    }
    expect(networkNames(file.services.caddy as Service)).toEqual(["edge"]);
  },
);

test.each(served)("Parley of compose.%s.yaml trusts X-Forwarded-For only from Caddy", (environment) => {
  const file = read(environment);
  const { edge } = file.networks ?? {};
  const { subnet = "", ip_range: range = "" } = edge?.ipam?.config[0] ?? {};
  const networks = file.services.caddy?.networks as Record<string, { ipv4_address?: string }>;
  const address = networks.edge?.ipv4_address ?? "";
  for (const [, service] of parleysOf(environment)) expect(service.environment?.TRUSTED_PROXIES).toBe(address);
  // Docker assigns the other addresses from the range; Caddy's is in the subnet but outside the range.
  const last = (text: string) => Number(text.split("/")[0]?.split(".")[3]);
  expect(subnet).toBe(`${address.replace(/\.\d+$/, "")}.${last(subnet)}/28`);
  expect(range).toBe(`${address.replace(/\.\d+$/, "")}.${last(subnet) + 8}/29`);
  expect(last(address) - last(subnet)).toBeWithin(2, 8);
});

test.each(environments)("compose.%s.yaml gives Parley more time to stop than it takes", (environment) => {
  const parleys = parleysOf(environment);
  expect(parleys).toHaveLength(environment === "development" ? 1 : 2);
  for (const [, service] of parleys) {
    const fallback = settingEntries.find(([name]) => name === "SHUTDOWN_TIMEOUT_MS")?.[1].default;
    const timeoutMs = Number(service.environment?.SHUTDOWN_TIMEOUT_MS ?? fallback);
    // The embedded Postgres stops after Parley.
    const ownMs = service.environment?.DATABASE_URL_FILE ? 5_000 : 15_000;
    expect(parseDurationMs(service.stop_grace_period ?? "")).toBeGreaterThanOrEqual(timeoutMs + ownMs);
  }
});

test("the production instances are identical", () => {
  const [first, second] = parleysOf("production");
  expect(first?.[1]).toEqual(second?.[1] as Service);
});

test("staging is production without monitoring, with its own names, addresses and limits", () => {
  const production = read("production");
  const staging = read("staging");
  const monitoring = ["prometheus", "grafana"];
  expect(Object.keys(staging.services)).toEqual(
    Object.keys(production.services).filter((name) => !monitoring.includes(name)),
  );
  const clean = (service: Service, { environment: ownEnvironment = {}, ...own } = service) => ({
    ...own,
    deploy: undefined,
    networks: networkNames(service).filter((network) => network !== "monitoring"),
    env_file: undefined,
    environment: { ...ownEnvironment, APP_ENV: "", PUBLIC_URL: "", PARLEY_DOMAIN: "", TRUSTED_PROXIES: "" },
  });
  for (const [name, service] of Object.entries(staging.services))
    expect(clean(service)).toEqual(clean(production.services[name] as Service));
});

test.each(environments)(
  "each Parley of compose.%s.yaml starts with its settings: parley config check",
  async (environment) => {
    using folder = createFolder();
    const file = read(environment);
    const secrets = makeSecrets(folder.path);
    const known = new Set(settingEntries.flatMap(([name, { secret }]) => (secret ? [name, `${name}_FILE`] : [name])));
    const checks = parleysOf(environment).map(async ([, { environment: settings = {} }]) => {
      expect(Object.keys(settings).filter((name) => !known.has(name))).toEqual([]);
      // A secret that isn't in a file would be visible in `docker inspect`.
      const bare = settingEntries.filter(([name, { secret }]) => secret && settings[name] !== undefined);
      if (environment !== "development") expect(bare.map(([name]) => name)).toEqual([]);
      const env = placeSecrets(settings, file, secrets);
      const [check, print] = await Promise.all([
        runParley(["config", "check"], { cwd: folder.path, env }),
        runParley(["config"], { cwd: folder.path, env }),
      ]);
      expect(check).toEqual({ code: 0, stdout: "The configuration is valid.\n", stderr: "" });
      expect(print.stdout).toMatch(new RegExp(`^APP_ENV=${environment} `, "m"));
      if (environment === "development") return;
      expect(print.stdout).toMatch(/^REGISTRATION=closed /m);
      for (const name of ["DATABASE_URL", "REDIS_URL"])
        expect(print.stdout).toMatch(new RegExp(`^${name}=\\w+://\\*{8}@\\S+ +# ${name}_FILE$`, "m"));
      for (const name of ["JWT_SECRET", "METRICS_TOKEN"])
        expect(print.stdout).toMatch(new RegExp(`^${name}=\\*{8} +# ${name}_FILE$`, "m"));
    });
    await Promise.all(checks);
  },
);

test("development can use a server as well", async () => {
  using folder = createFolder();
  const url = "postgres://parley:parley@postgres:5432/parley";
  const { services } = readCompose("development", { DATABASE_URL: url });
  const header = readFileSync(join(composeFolder, "compose.development.yaml"), "utf8");
  expect(header).toContain(`DATABASE_URL=${url} docker compose`);
  const { code } = await runParley(["config", "check"], { cwd: folder.path, env: services.parley?.environment });
  expect(code).toBe(0);
  const { POSTGRES_USER, POSTGRES_PASSWORD } = services.postgres?.environment ?? {};
  expect(url).toContain(`//${POSTGRES_USER}:${POSTGRES_PASSWORD}@postgres`);
});

test("make-secrets.sh writes every secret that a file refers to, and changes none when run again", () => {
  using folder = createFolder();
  const secrets = makeSecrets(folder.path);
  const names = served.flatMap((environment) =>
    Object.values(read(environment).secrets ?? {}).map(({ file }) => file.split("/").at(-1) ?? ""),
  );
  const contents = new Map(names.map((name) => [name, readFileSync(join(secrets, name), "utf8")]));
  expect(contents.size).toBe(10);
  // The containers' users read the files as others; the folder keeps out other users of the machine.
  for (const name of names) expect(statSync(join(secrets, name)).mode & 0o777).toBe(0o644);
  expect(statSync(secrets).mode & 0o777).toBe(0o700);

  writeFileSync(join(secrets, "openai_api_key"), "sk-own\n", { mode: 0o600 });
  makeSecrets(folder.path);
  for (const [name, content] of contents)
    if (name !== "openai_api_key") expect(readFileSync(join(secrets, name), "utf8")).toBe(content);
  expect(readFileSync(join(secrets, "openai_api_key"), "utf8")).toBe("sk-own\n");

  const random = [
    "jwt_secret",
    "metrics_token",
    "postgres_password",
    "postgres_superuser_password",
    "grafana_admin_password",
  ];
  for (const name of random) expect(contents.get(name)).toMatch(/^[0-9a-f]{64}\n$/);
  expect(new Set(random.map((name) => contents.get(name))).size).toBe(random.length);
  expect(contents.get("database_url")).toBe(
    `postgres://parley:${contents.get("postgres_password")?.trim()}@postgres:5432/parley\n`,
  );
  expect(contents.get("redis_url")).toBe(`redis://:${contents.get("valkey_conf")?.trim().split(" ")[1]}@valkey:6379\n`);
});

test("secrets next to the compose files aren't committed", () => {
  const ignored = Bun.spawnSync(
    ["git", "check-ignore", "secrets/jwt_secret", "secrets/staging/jwt_secret", "production.env", "staging.env"],
    {
      cwd: composeFolder,
    },
  );
  expect(ignored.stdout.toString().trim().split("\n")).toHaveLength(4);
});

/** Runs make-secrets.sh. @returns the folder with the secrets. */
function makeSecrets(parent: string): string {
  const secrets = join(parent, "secrets");
  const { exitCode, stderr } = Bun.spawnSync(["sh", join(composeFolder, "make-secrets.sh"), secrets]);
  expect({ exitCode, stderr: stderr.toString() }).toEqual({ exitCode: 0, stderr: "" });
  return secrets;
}

/** The settings with the paths of the secrets on this machine. */
function placeSecrets(settings: Record<string, string>, file: ComposeFile, secrets: string): Record<string, string> {
  const toLocalPath = (value: string) => {
    const name = /^\/run\/secrets\/(\w+)$/.exec(value)?.[1];
    if (name === undefined) return value;
    expect(Object.keys(file.secrets ?? {})).toContain(name);
    return join(secrets, name);
  };
  return Object.fromEntries(Object.entries(settings).map(([name, value]) => [name, toLocalPath(value)]));
}
