import type { BenchPostgres } from "./postgres.ts";
import type { BenchmarkReport } from "./report.ts";

export type BenchmarkContext = {
  rounds: number;
  /** Whether to recreate the data that persists between runs. */
  shouldRecreateData: boolean;
  /** Returns the Postgres server that all benchmarks share. The first call starts it. */
  getPostgres(): Promise<BenchPostgres>;
};

export type Benchmark = (context: BenchmarkContext) => Promise<BenchmarkReport>;
