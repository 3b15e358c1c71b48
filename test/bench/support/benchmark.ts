import type { BenchPostgres } from "./postgres.ts";
import type { BenchmarkReport } from "./report.ts";

export type BenchmarkContext = {
  rounds: number;
  /** Whether to recreate the data that persists between runs. */
  isFresh: boolean;
  /** Returns the Postgres server that all benchmarks share, and starts it on first use. */
  getPostgres(): Promise<BenchPostgres>;
};

export type Benchmark = (context: BenchmarkContext) => Promise<BenchmarkReport>;
