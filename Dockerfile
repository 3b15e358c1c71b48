# Builds Parley's image: `make image`, or `docker build -t parley .`. docs/containers.md explains how to run it.
#   PARLEY_COMMIT   the commit, for /version and the image's labels
#   PARLEY_VERSION  the expected version; the build fails if package.json has a different one
# The build stage runs on the build machine's architecture and cross-compiles, so an image for arm64 needs no emulation:
# `docker buildx build --platform linux/amd64,linux/arm64 .`

FROM --platform=$BUILDPLATFORM oven/bun:1.4.5-debian AS build
WORKDIR /parley
ARG TARGETARCH
# Docker's amd64 is npm's and Bun's x64.
RUN case "${TARGETARCH:-$(uname -m)}" in \
  amd64 | x86_64) echo x64 ;; \
  arm64 | aarch64) echo arm64 ;; \
  *) echo "Parley has no embedded PostgreSQL for ${TARGETARCH:-this machine}; build for linux/amd64 or linux/arm64." >&2; exit 1 ;; \
  esac >/cpu
COPY package.json bun.lock bunfig.toml ./
COPY patches patches
RUN bun install --frozen-lockfile --production --os=linux --cpu="$(cat /cpu)"
COPY tsconfig.json THIRD-PARTY-NOTICES.txt README.md CHANGELOG.md ./
COPY scripts scripts
COPY sql sql
COPY docs docs
COPY src src
ARG PARLEY_VERSION
RUN version=$(bun --print 'require("./package.json").version') \
  && if [ "${PARLEY_VERSION:-$version}" != "$version" ]; then \
    echo "PARLEY_VERSION is $PARLEY_VERSION, but package.json says $version; build the commit of that version." >&2; exit 1; \
  fi
ARG PARLEY_COMMIT=unknown
RUN bun scripts/pack-postgres.ts "linux-$(cat /cpu)" \
  && PARLEY_COMMIT="$PARLEY_COMMIT" bun scripts/build.ts dist/parley "bun-linux-$(cat /cpu)"

# Creates the image's user and folders here, because nothing can run in the final stage when cross-compiling.
FROM --platform=$BUILDPLATFORM debian:bookworm-slim AS system
RUN groupadd --gid 10001 parley \
  && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin parley \
  && install --directory --mode=0700 /volumes/data /volumes/backups

FROM debian:bookworm-slim
COPY --from=system /etc/passwd /etc/group /etc/
COPY --from=system --chown=10001:10001 /volumes/ /
COPY --from=build /parley/dist/parley /usr/local/bin/parley
# A number, so that Kubernetes can check that it isn't root (runAsNonRoot).
USER 10001:10001
# Not /data, because Docker fails without a clear error if the user can't enter the working directory.
WORKDIR /
ENV DATA_DIR=/data
VOLUME /data
EXPOSE 3000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["parley", "healthcheck"]
ENTRYPOINT ["parley"]
CMD ["serve"]
ARG PARLEY_VERSION=unknown
ARG PARLEY_COMMIT=unknown
LABEL org.opencontainers.image.title="Parley" \
  org.opencontainers.image.description="An AI chat backend in one executable" \
  org.opencontainers.image.licenses="MIT" \
  org.opencontainers.image.version="$PARLEY_VERSION" \
  org.opencontainers.image.revision="$PARLEY_COMMIT" \
  org.opencontainers.image.base.name="docker.io/library/debian:bookworm-slim"
