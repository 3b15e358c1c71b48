/** Connections for LISTEN, for commands that run while Parley is running, and for the superuser. */
const SPARE_CONNECTIONS = 20;

/**
 * Returns the embedded Postgres's settings that differ from the defaults. They are meant for a single small machine. On a larger
 * machine, use a Postgres server (`DATABASE_URL`). fsync and full_page_writes stay on, so that acknowledged rows are on disk.
 */
export function createServerSettings(poolSize: number): Record<string, string> {
  return {
    // Listens only on a Unix socket in the data folder, which only its owner can enter.
    listen_addresses: "",
    port: "5432",
    unix_socket_directories: ".",
    unix_socket_permissions: "0700",
    max_connections: String(poolSize + SPARE_CONNECTIONS),

    shared_buffers: "32MB",
    min_wal_size: "64MB",
    max_wal_size: "256MB",

    // No replicas and no parallel plans: fewer processes, less WAL, and no need for a large /dev/shm.
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

    // Logs no statements or details, because user content must not reach a log.
    log_min_error_statement: "panic",
    log_error_verbosity: "terse",
    log_checkpoints: "off",
  };
}
