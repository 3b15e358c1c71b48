# `make help` lists the tasks. Each task downloads its dependencies, and changes nothing else.

BUN_VERSION := 1.4.5
BUN := $(CURDIR)/.tools/node_modules/.bin/bun
EXECUTABLE := dist/parley
SOURCES := $(shell find src sql docs README.md CHANGELOG.md THIRD-PARTY-NOTICES.txt -type f 2>/dev/null)

# The slowest test files start first. There are more workers than cores, because many tests wait.
TEST_POSTGRES ?= server
TEST_RUN := $(BUN) test --parallel=3 --no-isolate --timeout=30000 --timings=test/timings.json

BUN_STAMP := .tools/bun-$(BUN_VERSION).stamp
PACKAGES_STAMP := node_modules/.parley.stamp
SDK_STAMP := test/sdk/node_modules/.parley.stamp
POSTGRES := dist/embedded/postgres.tar.zst
VERSION := $(shell sed -nE 's/^  "version": "(.*)",/\1/p' package.json)
# Without Docker: IMAGE_BUILDER="buildah bud --format docker".
IMAGE_BUILDER ?= docker build

# Slow tests: crashes, failover and long waits. `make check` runs them too.
DRILLS := $(addprefix test/,acceptance/first-run.test.ts acceptance/hooks.test.ts acceptance/provider-quirks.test.ts acceptance/mcp.test.ts tools/mcp-faults.test.ts \
  analytics/recount.test.ts commands/data-dir.test.ts limits/answers.test.ts locks/large-deletion.test.ts messages/plans.test.ts \
  pooler/executable.test.ts acceptance/crash-loop.test.ts acceptance/crash.test.ts acceptance/database-outage.test.ts \
  acceptance/provider-behavior.test.ts acceptance/instances.test.ts acceptance/network.test.ts acceptance/providers.test.ts \
  acceptance/startup-errors.test.ts acceptance/search.test.ts acceptance/secrets.test.ts acceptance/several-providers.test.ts acceptance/shutdown.test.ts \
  acceptance/storm.test.ts acceptance/takeover.test.ts acceptance/tls.test.ts \
  acceptance/metrics.test.ts acceptance/prometheus.test.ts acceptance/trace-export.test.ts acceptance/traces.test.ts \
  acceptance/webhooks.test.ts accounts/interrupted-deletion.test.ts ai/time-limits.test.ts backup/archive.test.ts \
  commands/address.test.ts commands/admin.test.ts commands/backup.test.ts commands/doctor.test.ts commands/doctor-database.test.ts \
  commands/doctor-servers.test.ts commands/selftest.test.ts commands/serve.test.ts \
  db/connect.test.ts db/embedded-crash.test.ts db/embedded-permissions.test.ts db/embedded.test.ts \
  db/group-commit.test.ts documents/indexing.test.ts documents/instances.test.ts documents/locked-index.test.ts \
  generations/long-histories.test.ts generations/unstorable-answers.test.ts generations/rolling-restarts.test.ts \
  generations/write-volume.test.ts guides/administration.test.ts guides/backup.test.ts guides/contributing.test.ts guides/deployment.test.ts guides/doctor.test.ts \
  guides/errors.test.ts guides/event-feed.test.ts guides/getting-started.test.ts guides/group-chat.test.ts guides/in-order.test.ts guides/integration.test.ts guides/reference.test.ts guides/rest.test.ts guides/runner.test.ts guides/scaling.test.ts guides/troubleshooting.test.ts \
  guides/upgrading.test.ts guides/webhooks.test.ts guides/websocket-examples.test.ts \
  inbox/inbox.test.ts limits/password-floods.test.ts limits/redis.test.ts \
  locks/frozen-instance.test.ts locks/locked-budget.test.ts locks/locked-conversation.test.ts locks/pool.test.ts \
  openai/stream-opening.test.ts realtime/bus-contract.test.ts realtime/instances.test.ts search/backfill.test.ts \
  budgets/charged-usage.test.ts generations/reasoning.test.ts network/models-by-proxy.test.ts network/models-by-tls.test.ts sdk/retries.test.ts \
  tools/mcp-identity.test.ts tools/thinking-takeover.test.ts webhooks/delivery.test.ts webhooks/two-instances.test.ts)
# Tests that take minutes each, such as many clients during failures. Only `make drill` runs them.
LONG_DRILLS := $(addprefix test/,acceptance/backup.test.ts acceptance/browsers.test.ts acceptance/proxies.test.ts \
  acceptance/imports.test.ts acceptance/inbox.test.ts \
  acceptance/scheduled-backup.test.ts backup/schedule.test.ts \
  acceptance/stalled-database.test.ts acceptance/upgrade.test.ts commands/upgrade.test.ts deploy/install.test.ts \
  deploy/production-setup.test.ts documents/browser.test.ts guides/chat-client.test.ts http/asyncapi-browser.test.ts http/pages-browser.test.ts history/pgbouncer.test.ts history/postgres.test.ts \
  history/redis.test.ts realtime/redis-cluster.test.ts release/bare-system.test.ts security/open-streams.test.ts)

# Programs that the tests need. Each target installs its program if it is missing.
TEST_NEEDS := test-postgres test-redis test-pgbouncer test-deploy test-systemd test-sdk test-guides

.PHONY: help setup run dev test drill quick-drill soak timings contract-coverage fuzz check build image try-image try-pitr release release-check bench docs contract sql patches \
  clean $(TEST_NEEDS) test-machine test-chromium test-python
.DEFAULT_GOAL := help

help: ## list the tasks
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

setup: $(PACKAGES_STAMP) $(POSTGRES) ## download Bun, the packages and the embedded Postgres

run: build ## build the executable and start it
	./$(EXECUTABLE)

dev: setup ## run from source, and restart after each change
	$(BUN) --no-env-file --watch src/main.ts

test: setup $(TEST_NEEDS) ## run the tests (TEST=path runs some of them, TEST_POSTGRES=embedded uses the embedded Postgres)
	TEST_POSTGRES=$(TEST_POSTGRES) $(TEST_RUN) $(or $(TEST),$(patsubst %,--path-ignore-patterns='%',$(DRILLS) $(LONG_DRILLS) $(SKIPPED)))

drill: setup $(TEST_NEEDS) test-machine test-chromium ## run the slow tests: crashes, failover, long waits (TEST=path runs some of them)
	TEST_POSTGRES=$(TEST_POSTGRES) $(TEST_RUN) $(or $(TEST),$(DRILLS) $(LONG_DRILLS))

quick-drill: setup $(TEST_NEEDS) ## run the slow tests, except those that take minutes
	TEST_POSTGRES=$(TEST_POSTGRES) $(TEST_RUN) $(DRILLS)

soak: setup $(TEST_NEEDS) ## run the tests of locks and several instances with realistic durations
	SOAK=on $(BUN) test --timeout=120000 test/locks
	SOAK=on $(BUN) test --timeout=900000 test/history

timings: setup $(TEST_NEEDS) ## run the tests, and record how long each file takes
	$(TEST_RUN) --update-timings

contract-coverage: setup $(TEST_NEEDS) ## run the tests, and list the parts of contract/ that none of them covers
	rm -rf dist/contract-coverage
	-CONTRACT_COVERAGE=$(CURDIR)/dist/contract-coverage $(MAKE) --no-print-directory test quick-drill
	$(BUN) scripts/contract-coverage.ts dist/contract-coverage

fuzz: setup $(TEST_NEEDS) ## run the property tests for longer, with a random seed (PROPERTY_SEED=n repeats one)
	scripts/fuzz.sh $(BUN)

check: setup $(TEST_NEEDS) ## run what CI runs: format, lint, types, build, tests, and a smoke test of the executable
	BUN=$(BUN) MAKE="$(MAKE)" scripts/check.sh

build: setup $(EXECUTABLE) ## compile dist/parley

image: ## build the container image parley:VERSION (IMAGE_BUILDER="buildah bud --format docker" without Docker)
	$(IMAGE_BUILDER) --build-arg PARLEY_COMMIT="$$(git rev-parse --short=12 HEAD)" --build-arg PARLEY_VERSION=$(VERSION) --tag parley:$(VERSION) .

try-image: ## start, kill, restart and stop the image without Docker (needs root, buildah and util-linux)
	scripts/try-image.sh parley:$(VERSION)

try-pitr: build ## test point-in-time recovery with pgBackRest (needs root)
	@ls /usr/bin/pgbackrest /usr/local/bin/pgbackrest 2>/dev/null | grep -q . || scripts/install-pgbackrest.sh
	scripts/try-pitr.sh $(EXECUTABLE)

release: $(PACKAGES_STAMP) ## build executables for all platforms in dist/release (TARGETS=linux-x64 builds only some, TAG=v0.1.0 checks the version)
	TAG=$(TAG) $(BUN) scripts/release.ts $(TARGETS)

release-check: $(PACKAGES_STAMP) ## check that package.json, CHANGELOG.md and TAG=v0.1.0 (if set) have the same version
	TAG=$(TAG) $(BUN) scripts/release.ts --check

bench: build ## measure speed and memory
	$(BUN) install --cwd test/bench --frozen-lockfile
	$(BUN) test/bench/main.ts

docs: setup ## generate .env.example, THIRD-PARTY-NOTICES.txt and the generated tables in docs/
	$(BUN) scripts/docs.ts

contract: setup ## generate contract/openapi.json and contract/asyncapi.json
	$(BUN) scripts/contract.ts

sql: setup ## update the checksums of migrations and the revision of SQL functions
	$(BUN) scripts/sql-checksums.ts

patches: ## combine the Postgres driver's patches (patches/postgres) into one file
	cat patches/postgres/*.patch > patches/postgres@3.4.9.patch

clean: ## delete dist/
	rm -rf dist

$(BUN_STAMP):
	@command -v npm >/dev/null || { echo "npm is needed to fetch Bun $(BUN_VERSION); install Node.js first." >&2; exit 1; }
	npm install --prefix .tools --no-save --no-package-lock --no-audit --no-fund --loglevel=error bun@$(BUN_VERSION)
	@touch $@

$(PACKAGES_STAMP): $(BUN_STAMP) package.json bun.lock $(wildcard patches/*)
	$(BUN) install --frozen-lockfile
	@touch $@

$(POSTGRES): $(PACKAGES_STAMP) scripts/pack-postgres.ts scripts/tar.ts
	$(BUN) scripts/pack-postgres.ts
	@touch $@

$(EXECUTABLE): $(SOURCES) package.json scripts/build.ts $(POSTGRES)
	$(BUN) scripts/build.ts $@

# The tests start their own server, so they only need its binaries.
test-postgres:
	@ls /usr/lib/postgresql/$(or $(TEST_POSTGRES_VERSION),*)/bin/initdb >/dev/null 2>&1 || scripts/install-postgres.sh

test-redis:
	@ls /usr/bin/redis-check-rdb /usr/local/bin/redis-server 2>/dev/null | grep -q . || scripts/install-redis.sh

test-pgbouncer:
	@ls /usr/sbin/pgbouncer /usr/bin/pgbouncer /usr/local/bin/pgbouncer 2>/dev/null | grep -q . || scripts/install-pgbouncer.sh

# Programs that use the files in deploy/. Tests validate the files with them, or run them on this machine only.
test-deploy:
	@ls /usr/bin/caddy /usr/local/bin/caddy .tools/debian/usr/bin/caddy 2>/dev/null | grep -q . || \
	  scripts/unpack-debian.sh caddy usr/bin/caddy .tools/debian
	@ls /usr/sbin/nginx .tools/nginx/usr/sbin/nginx 2>/dev/null | grep -q . || scripts/install-nginx.sh .tools/nginx
	@ls /usr/bin/promtool /usr/local/bin/promtool .tools/debian/usr/bin/promtool 2>/dev/null | grep -q . || \
	  scripts/unpack-debian.sh prometheus usr/bin/promtool .tools/debian
	@ls /usr/bin/prometheus /usr/local/bin/prometheus .tools/debian/usr/bin/prometheus 2>/dev/null | grep -q . || \
	  scripts/unpack-debian.sh prometheus usr/bin/prometheus .tools/debian

# The client SDKs for test/sdk and its type check.
test-sdk: $(SDK_STAMP)

$(SDK_STAMP): $(BUN_STAMP) test/sdk/package.json test/sdk/bun.lock
	$(BUN) install --cwd test/sdk --frozen-lockfile
	@touch $@

# OpenAI's Python SDK. If it is missing, test/sdk only replays its recorded requests.
test-python:
	python3 -m venv .tools/python
	.tools/python/bin/pip install --quiet --requirement test/sdk/python/requirements.txt

# Tools that the guides use in addition to Node.js and Bun. Go is large, so its example only runs if Go is installed.
test-guides:
	@{ command -v jq && command -v curl && /usr/bin/python3 -c 'import websockets'; } >/dev/null 2>&1 || scripts/install-guide-tools.sh

test-chromium:
	@command -v chromium >/dev/null || scripts/install-chromium.sh

# Tools that check the files in deploy/.
test-systemd:
	@{ command -v systemd-analyze && command -v shellcheck && ls /usr/sbin/logrotate; } >/dev/null 2>&1 || scripts/install-systemd-tools.sh

test-machine:
	@ls /usr/bin/systemd-nspawn /usr/sbin/debootstrap >/dev/null 2>&1 || scripts/install-systemd-tools.sh container
