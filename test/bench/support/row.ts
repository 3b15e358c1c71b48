import type { BenchPostgres } from "./postgres.ts";
import type { RowReport } from "./report.ts";

export type Context = {
  rounds: number;
  /** Data that is kept between runs is made again. */
  isFresh: boolean;
  /** One Postgres for all sides and rows, started when it is first needed. */
  getPostgres(): Promise<BenchPostgres>;
};

export type Row = (context: Context) => Promise<RowReport>;
