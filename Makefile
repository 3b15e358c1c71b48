# One word for each task. `make help` lists them; everything that is missing is fetched, nothing else is touched.

BUN_VERSION := 1.4.5
BUN := $(CURDIR)/.tools/node_modules/.bin/bun
EXECUTABLE := dist/parley
SOURCES := $(shell find src sql docs -type f 2>/dev/null)

# The files that took longest start first. More workers than two cores can serve: many tests wait.
TEST_POSTGRES ?= server
TEST_RUN := $(BUN) test --parallel=3 --no-isolate --timeout=30000 --timings=test/timings.json

BUN_STAMP := .tools/bun-$(BUN_VERSION).stamp
PACKAGES_STAMP := node_modules/.parley.stamp
POSTGRES := dist/embedded/postgres.tar.zst

.PHONY: help setup run dev test soak timings fuzz check build bench docs contract sql patches clean test-postgres test-redis
.DEFAULT_GOAL := help

help: ## list the tasks
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

setup: $(PACKAGES_STAMP) $(POSTGRES) ## fetch Bun, the packages and the Postgres that is carried

run: build ## build the executable and start it
	./$(EXECUTABLE)

dev: setup ## run from source, again after each change
	$(BUN) --no-env-file --watch src/main.ts

test: setup test-postgres test-redis ## run the tests (TEST=path for some, TEST_POSTGRES=embedded for the other Postgres)
	TEST_POSTGRES=$(TEST_POSTGRES) $(TEST_RUN) $(TEST)

soak: setup test-postgres ## run the tests of locks with times as long as in the world
	SOAK=on $(BUN) test --timeout=120000 test/locks

timings: setup test-postgres test-redis ## run the tests, and write down how long each file takes
	$(TEST_RUN) --update-timings

fuzz: setup test-postgres ## run the property tests for longer, with a random seed (PROPERTY_SEED=n repeats one)
	scripts/fuzz.sh $(BUN)

check: setup test-postgres test-redis ## format, lint, types, tests, build, and a look at the running executable: what CI runs
	BUN=$(BUN) MAKE="$(MAKE)" scripts/check.sh

build: setup $(EXECUTABLE) ## compile dist/parley

bench: build ## measure speed and memory
	$(BUN) install --cwd test/bench --frozen-lockfile
	$(BUN) test/bench/main.ts

docs: setup ## write .env.example and the settings in docs/operations.md
	$(BUN) scripts/docs.ts

contract: setup ## write contract/openapi.json and contract/asyncapi.json
	$(BUN) scripts/contract.ts

sql: setup ## write the checksums of the migrations, and the revision of the functions
	$(BUN) scripts/sql-checksums.ts

patches: ## write the patch of the Postgres driver out of its parts (patches/postgres)
	cat patches/postgres/*.patch > patches/postgres@3.4.9.patch

clean: ## remove what was built
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

# The tests run on a private server of their own; they only need its binaries.
test-postgres:
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || scripts/install-postgres.sh

test-redis:
	@ls /usr/bin/redis-check-rdb /usr/local/bin/redis-server 2>/dev/null | grep -q . || scripts/install-redis.sh
