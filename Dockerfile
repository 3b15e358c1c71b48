# Parley in a container: `docker build --build-arg PARLEY_COMMIT=$(git rev-parse --short=12 HEAD) -t parley .`
# The executable carries its runtime and a PostgreSQL; without DATABASE_URL all data lies in the volume /data.

FROM oven/bun:1.4.5-debian AS build
WORKDIR /parley
COPY package.json bun.lock bunfig.toml ./
COPY patches patches
RUN bun install --frozen-lockfile
COPY tsconfig.json ./
COPY scripts scripts
COPY sql sql
COPY docs docs
COPY src src
ARG PARLEY_COMMIT=unknown
RUN bun scripts/pack-postgres.ts && PARLEY_COMMIT=$PARLEY_COMMIT bun scripts/build.ts dist/parley

FROM debian:bookworm-slim
RUN useradd --system --uid 10001 --user-group --home-dir /data --shell /usr/sbin/nologin parley \
  && install --directory --owner=parley --group=parley --mode=0700 /data
COPY --from=build /parley/dist/parley /usr/local/bin/parley
USER parley
WORKDIR /data
ENV DATA_DIR=/data
VOLUME /data
EXPOSE 3000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["parley", "healthcheck"]
ENTRYPOINT ["parley"]
CMD ["serve"]
