import type { Block } from "./blocks.ts";

/** Maps the start of a block to the reason why no test in this folder runs or validates it. */
type Reasons = Record<string, string>;

const COMPOSE = "Needs Docker; test/deploy/compose.test.ts checks the files and scripts that the block names.";
const BENCHMARK = "Takes minutes, and measures this machine.";
const MACHINE = "Changes the whole machine; test/deploy/install.test.ts does the same in a container.";

const PACKAGES = "Installs packages, which the tests already have.";

/** The reasons by page. `make drill` and `make release` run many of these blocks elsewhere. */
const notRun: Record<string, Reasons> = {
  "README.md": {
    "make run": "Builds the executable that runs all pages.",
    "make build && dist/parley selftest": "Takes a minute; test/commands/selftest.test.ts runs it.",
    "OPENAI_API_KEY=sk-…": "Needs an OpenAI API key.",
  },
  "docs/architecture.md": {
    "flowchart TB": "A diagram; test/docs.test.ts checks that the files in it exist.",
  },
  "docs/getting-started.md": {
    "OPENAI_API_KEY=sk-…": "Needs an OpenAI API key.",
  },
  "docs/backup.md": {
    "parley backup move": "Needs another database; test/acceptance/backup.test.ts runs these commands.",
    "[global]": "Needs pgBackRest; `make try-pitr` runs it with this configuration.",
    archive_mode: "Needs pgBackRest; `make try-pitr` runs it with this configuration.",
    "pgbackrest --stanza": "Needs pgBackRest; `make try-pitr` runs it with this configuration.",
    "age -d": "Needs age and a key; test/backup/archive.test.ts reads encrypted archives.",
  },
  "docs/benchmarks.md": {
    "make bench": BENCHMARK,
    ".tools/node_modules/.bin/bun test/bench": BENCHMARK,
  },
  "docs/containers.md": {
    "make image": "Needs Docker; `make try-image` runs the image.",
    "docker run": "Needs Docker; `make try-image` runs the image.",
    "docker compose": COMPOSE,
    "cd deploy/compose": COMPOSE,
    "parley-compose": COMPOSE,
    "kubectl create": "Needs a cluster; test/deploy/kubernetes.test.ts checks the manifests.",
  },
  "docs/deployment.md": {
    "APP_ENV=production\n":
      "Has placeholders, which Parley rejects; test/commands/environments.test.ts checks such a file.",
  },
  "docs/environments.md": {
    "set -a;": "Refers to a file that the reader fills in; test/commands/environments.test.ts checks the examples.",
  },
  "docs/import-export.md": {
    'curl -sS -H "Authorization: Bearer $TOKEN" -F':
      "Needs an export from another service; test/acceptance/imports.test.ts uploads exports.",
  },
  "docs/models.md": {
    "client = OpenAI": "Needs a provider's API key; test/sdk/openai-python.test.ts makes the same call.",
    "answer = client": "Needs an Anthropic API key; test/sdk/thinking.test.ts makes the same call.",
    "export AI_MODELS=openai/gpt-5.2,offline":
      "Needs an OpenAI API key; test/ai/failover.test.ts runs such a failover chain.",
    "export AI_PRICES": "Two formats of one setting; test/budgets/config.test.ts parses both.",
    "parley key create": "Only creates a key; docs/api-keys.md runs the command.",
  },
  "docs/monitoring.md": {
    "curl -sS -H": "Needs a server with METRICS_TOKEN; test/acceptance/metrics.test.ts reads its metrics.",
    "cp -r deploy/monitoring":
      "Prometheus runs until it is stopped; test/acceptance/prometheus.test.ts runs it with these files.",
    "docker run": "Needs Docker; test/acceptance/traces.test.ts decodes the traces that Parley sends.",
    "receivers:": "Needs the Collector; test/acceptance/traces.test.ts decodes the traces that Parley sends.",
  },
  "docs/network.md": {
    NODE_EXTRA_CA_CERTS: "Refers to a file that the reader creates; test/config/network.test.ts reads the setting.",
  },
  "docs/oidc.md": {
    "OIDC_ISSUER=https://login.microsoftonline.com": "Has a placeholder for a tenant in its URL.",
  },
  "docs/openai.md": {
    "from openai import": "Needs OpenAI's Python package; test/sdk/openai-python.test.ts makes its calls.",
    "import OpenAI from": "test/sdk/openai-node.test.ts makes calls with this client.",
    "import { createOpenAICompatible": "test/sdk/ai-sdk.test.ts makes calls with this client.",
    "import { createOpenAI }": "test/sdk/ai-sdk.test.ts makes calls with this client.",
    "import { ChatOpenAI": "test/sdk/langchain.test.ts makes calls with this client.",
  },
  "docs/operations.md": {
    "[databases]": "test/pooler runs PgBouncer with these settings.",
    "alter role": "Needs the reader's database role; test/db/session.test.ts sets the same timeouts.",
  },
  "docs/providers.md": {
    "export AI_PROVIDERS=": "test/providers/recipes.test.ts runs these examples with mock servers.",
    "export OPENAI_API_KEY=sk-…": "Needs an OpenAI API key.",
    "export COMPATIBLE_BASE_URL": "Needs Ollama; test/acceptance/providers.test.ts sets the same variable.",
  },
  "docs/proxies.md": {
    "curl -sS https://chat": "Needs a domain; test/acceptance/proxies.test.ts opens such sockets through both proxies.",
    worker_rlimit_nofile: "Belongs in nginx's main configuration file, which the tests write themselves.",
  },
  "docs/realtime.md": {
    "const encoded": "A part of a web page; README.md and docs/from-socket-io.md run the same code.",
    "function applyFrame": "test/realtime/documented-reducer.test.ts runs it.",
    "const response = await fetch": "test/guides/event-feed.test.ts runs it.",
  },
  "docs/releasing.md": {
    "sha256sum --check": "Needs a published release; test/release checks the files.",
    "git checkout": "Needs a tag; builds all executables.",
  },
  "docs/rest.md": {
    '{"quotas"': "Shows only two of the quotas; test/quotas reads the whole response.",
  },
  "docs/security.md": {
    TLS_CERT_FILE: "Refers to files that the reader creates; test/acceptance/tls.test.ts sets both.",
  },
  "docs/scaling.md": {
    "create role parley": "test/guides/scaling.test.ts does this on its own Postgres server.",
  },
  "docs/selftest.md": {
    "parley selftest": "Takes a minute or more; the command's tests run it.",
  },
  "docs/tools.md": {
    "auth = JWTVerifier": "Needs FastMCP's Python package.",
    "const { payload }": "A part of a server; test/tools/mcp-identity.test.ts verifies such a token.",
  },
  "docs/vm.md": {
    "sudo deploy/install.sh": MACHINE,
    "sudo parley-run": MACHINE,
    "systemctl stop": MACHINE,
    "[Journal]": "A setting of systemd's journal.",
    "sudo install": MACHINE,
  },
  "docs/from-socket-io.md": {
    "npm install": PACKAGES,
  },
  "docs/websocket-examples.md": {
    "go mod init": PACKAGES,
    "websocat --protocol": "Debian has no websocat; the block with wscat above it sends the same frames.",
  },
};

/** Lists all entries. */
export const listNotRun = (): [page: string, start: string, reason: string][] =>
  Object.entries(notRun).flatMap(([page, reasons]) =>
    Object.entries(reasons).map(([start, reason]): [string, string, string] => [page, start, reason]),
  );

/** Returns why a block isn't run, or undefined if it isn't listed. */
export function findNotRunReason({ page, text }: Block): string | undefined {
  const trimmedText = text.trimStart();
  return listNotRun().find(([listedPage, start]) => listedPage === page && trimmedText.startsWith(start))?.[2];
}
