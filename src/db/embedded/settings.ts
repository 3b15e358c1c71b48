/** Connections in addition to the pool: LISTEN, commands that join a running Parley, and those reserved for the superuser. */
const SPARE_CONNECTIONS = 20;

/**
 * Every setting of the embedded Postgres that differs from its default. It is sized for one small machine; for more, run a
 * server and set `DATABASE_URL`. fsync and full_page_writes stay on: an acknowledged row is on disk.
 */
export function serverSettings(poolSize: number): Record<string, string> {
  return {
    // Reached through one socket in its own folder, which only its owner can open.
    listen_addresses: "",
    port: "5432",
    unix_socket_directories: ".",
    unix_socket_permissions: "0700",
    max_connections: String(poolSize + SPARE_CONNECTIONS),

    shared_buffers: "32MB",
    min_wal_size: "64MB",
    max_wal_size: "256MB",

    // No replicas and no parallel plans: fewer processes, less WAL, and no large /dev/shm needed.
    wal_level: "minimal",
    max_wal_senders: "0",
    max_logical_replication_workers: "0",
    max_parallel_workers: "0",
    max_parallel_workers_per_gather: "0",
    max_parallel_maintenance_workers: "0",
    max_worker_processes: "2",
    autovacuum_worker_slots: "3",
    io_method: "sync",
    jit: "off",

    timezone: "UTC",
    log_timezone: "UTC",
    lc_messages: "C",

    // User content must not reach a log: no statements, no details.
    log_min_error_statement: "panic",
    log_error_verbosity: "terse",
    log_checkpoints: "off",
  };
}
