import type { PathName } from "./answer-paths.ts";
import { formatNumber, type Line } from "./report.ts";
import { medianOf } from "./rounds.ts";

export type ArrivalTimes = {
  /** The time from the request to the first piece. */
  p50Ms: number;
  p99Ms: number;
  /** The p99 of the interval between two pieces, minus the provider's p99. */
  pieceIntervalMs: number;
  /** The number of lost or misplaced pieces. */
  pieceErrors: number;
  /** The maximum number of concurrent answers. */
  concurrentAnswers: number;
};
/** `cpuMs` and `databaseMs` are per answer in `steady`. */
export type AnswerSample = { steady: ArrivalTimes; crowd: ArrivalTimes; cpuMs: number; databaseMs: number };
export type AnswerSamples = Record<PathName, AnswerSample[]>;

type Read = (sample: AnswerSample) => number;
type Figure = {
  what: string;
  unit: string;
  read: Read;
  /** Whether the figure is the overhead over a direct connection. */
  isOverhead?: boolean;
  peer: PathName;
  target?: Line["target"];
};

const titles: Record<PathName, string> = {
  direct: "direct",
  nginx: "nginx",
  parley: "Parley, conversation",
  parleyV1: "Parley, /v1",
  portkey: "Portkey",
};

const p50: Read = ({ steady }) => steady.p50Ms;
const p99: Read = ({ steady }) => steady.p99Ms;
const crowdP50: Read = ({ crowd }) => crowd.p50Ms;
const cpu: Read = ({ cpuMs }) => cpuMs;
const pieceInterval: Read = ({ steady }) => steady.pieceIntervalMs;

const firstTokenDefaults = { unit: "ms", isOverhead: true };
const figures: Figure[] = [
  { ...firstTokenDefaults, what: "first token, p50", read: p50, peer: "nginx", target: { abovePeer: 1 } },
  { ...firstTokenDefaults, what: "first token, p50", read: p50, peer: "direct", target: { upTo: 3 } },
  { ...firstTokenDefaults, what: "first token, p50", read: p50, peer: "portkey", target: { atMost: 0.2 } },
  { ...firstTokenDefaults, what: "first token, p99", read: p99, peer: "nginx", target: { upTo: 15 } },
  { ...firstTokenDefaults, what: "first token, p99", read: p99, peer: "portkey" },
  { what: "a stream", unit: "ms CPU", read: cpu, peer: "nginx", target: { atMost: 3 } },
  { what: "a stream", unit: "ms CPU", read: cpu, peer: "portkey", target: { atMost: 1 } },
  { what: "between two pieces, p99", unit: "ms", read: pieceInterval, peer: "nginx", target: { upTo: 5 } },
  { ...firstTokenDefaults, what: "first token of all at once, p50", read: crowdP50, peer: "nginx" },
  { ...firstTokenDefaults, what: "first token of all at once, p50", read: crowdP50, peer: "portkey" },
];

/** Returns the lines that compare one of Parley's APIs with nginx and Portkey. */
export function reportAnswers(samples: AnswerSamples, path: "parley" | "parleyV1"): Line[] {
  const toLine = ({ what, unit, read, isOverhead = false, peer, target }: Figure): Line => {
    const readValue = (measuredPath: PathName) =>
      medianOf(samples[measuredPath], read) - (isOverhead ? medianOf(samples.direct, read) : 0);
    return {
      what: `${titles[path]}: ${isOverhead ? "added to the " : ""}${what}`,
      unit,
      parley: readValue(path),
      ...(peer !== "direct" && { peer: { name: titles[peer], value: readValue(peer) } }),
      ...(target && { target }),
    };
  };
  return [
    ...figures.map(toLine),
    {
      what: `${titles[path]}: lost or misplaced pieces, all at once`,
      unit: "pieces",
      parley: countPieceErrors(samples[path]),
      peer: { name: titles.nginx, value: countPieceErrors(samples.nginx) },
      target: { upTo: 0 },
    },
  ];
}

/** Counts the errors in all rounds, because a median would hide a piece that was lost once. */
const countPieceErrors = (samples: AnswerSample[]): number =>
  samples.reduce((sum, { steady, crowd }) => sum + steady.pieceErrors + crowd.pieceErrors, 0);

/** Describes all figures of each path. */
export function describeAnswers(samples: AnswerSamples): string[] {
  return (Object.keys(titles) as PathName[]).map((path) => {
    const median = (read: Read) => formatNumber(medianOf(samples[path], read));
    const minConcurrent = Math.min(...samples[path].map(({ crowd }) => crowd.concurrentAnswers));
    const database = path.startsWith("parley") ? ` and ${median(({ databaseMs }) => databaseMs)} ms of Postgres` : "";
    return (
      `${titles[path]}: first token p50 ${median(p50)} ms, p99 ${median(p99)} ms; ${median(cpu)} ms CPU a stream${database}; ` +
      `between two pieces p99 ${median(pieceInterval)} ms more than sent; at once (${minConcurrent} or more of them): first token ` +
      `${median(crowdP50)} and ${median(({ crowd }) => crowd.p99Ms)} ms, between two pieces ` +
      `${median(({ crowd }) => crowd.pieceIntervalMs)} ms, ${countPieceErrors(samples[path])} pieces lost or misplaced`
    );
  });
}
