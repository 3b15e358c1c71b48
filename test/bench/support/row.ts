import type { BenchPostgres } from "./postgres.ts";
import type { RowReport } from "./report.ts";

export type Context = {
  rounds: number;
  /** Whether data kept between test runs is recreated. */
  isFresh: boolean;
  /** One Postgres for all sides and rows, started on first use. */
  getPostgres(): Promise<BenchPostgres>;
};

export type Row = (context: Context) => Promise<RowReport>;
