import type { PathName } from "./answer-paths.ts";
import { formatNumber, type Line } from "./report.ts";
import { medianBy } from "./rounds.ts";

export type ArrivalTimes = {
  /** The time from the request to the first piece. */
  p50Ms: number;
  p99Ms: number;
  /** The p99 of the intervals between pieces, minus the p99 of the intervals at which the provider sent them. */
  pieceIntervalMs: number;
  /** The number of lost or misplaced pieces. */
  pieceErrors: number;
  /** The maximum number of concurrent answers. */
  concurrentAnswers: number;
};
/** Measurements of two loads (benchmarks/answers.ts). `cpuMs` and `databaseMs` are per answer in the `steady` load. */
export type AnswerSample = { steady: ArrivalTimes; crowd: ArrivalTimes; cpuMs: number; databaseMs: number };
export type AnswerSamples = Record<PathName, AnswerSample[]>;

type GetFigure = (sample: AnswerSample) => number;
type Figure = {
  label: string;
  unit: string;
  getValue: GetFigure;
  /** Whether the figure is the overhead over a direct connection. */
  isOverhead?: boolean;
  peer: PathName;
  target?: Line["target"];
};

const pathTitles: Record<PathName, string> = {
  direct: "direct",
  nginx: "nginx",
  parley: "Parley, conversation",
  parleyV1: "Parley, /v1",
  portkey: "Portkey",
};

const getP50Ms: GetFigure = ({ steady }) => steady.p50Ms;
const getP99Ms: GetFigure = ({ steady }) => steady.p99Ms;
const getCrowdP50Ms: GetFigure = ({ crowd }) => crowd.p50Ms;
const getCpuMs: GetFigure = ({ cpuMs }) => cpuMs;
const getPieceIntervalMs: GetFigure = ({ steady }) => steady.pieceIntervalMs;

const firstTokenDefaults = { unit: "ms", isOverhead: true };
const figures: Figure[] = [
  { ...firstTokenDefaults, label: "first token, p50", getValue: getP50Ms, peer: "nginx", target: { abovePeer: 1 } },
  { ...firstTokenDefaults, label: "first token, p50", getValue: getP50Ms, peer: "direct", target: { upTo: 3 } },
  { ...firstTokenDefaults, label: "first token, p50", getValue: getP50Ms, peer: "portkey", target: { atMost: 0.2 } },
  { ...firstTokenDefaults, label: "first token, p99", getValue: getP99Ms, peer: "nginx", target: { upTo: 15 } },
  { ...firstTokenDefaults, label: "first token, p99", getValue: getP99Ms, peer: "portkey" },
  { label: "a stream", unit: "ms CPU", getValue: getCpuMs, peer: "nginx", target: { atMost: 3 } },
  { label: "a stream", unit: "ms CPU", getValue: getCpuMs, peer: "portkey", target: { atMost: 1 } },
  { label: "between two pieces, p99", unit: "ms", getValue: getPieceIntervalMs, peer: "nginx", target: { upTo: 5 } },
  { ...firstTokenDefaults, label: "first token of all at once, p50", getValue: getCrowdP50Ms, peer: "nginx" },
  { ...firstTokenDefaults, label: "first token of all at once, p50", getValue: getCrowdP50Ms, peer: "portkey" },
];

/** Returns the lines that compare one of Parley's APIs with nginx and Portkey. */
export function reportAnswers(samples: AnswerSamples, path: "parley" | "parleyV1"): Line[] {
  const createLine = ({ label, unit, getValue, isOverhead = false, peer, target }: Figure): Line => {
    const getMedianValue = (measuredPath: PathName) =>
      medianBy(samples[measuredPath], getValue) - (isOverhead ? medianBy(samples.direct, getValue) : 0);
    return {
      label: `${pathTitles[path]}: ${isOverhead ? "added to the " : ""}${label}`,
      unit,
      parley: getMedianValue(path),
      ...(peer !== "direct" && { peer: { name: pathTitles[peer], value: getMedianValue(peer) } }),
      ...(target && { target }),
    };
  };
  return [
    ...figures.map(createLine),
    {
      label: `${pathTitles[path]}: lost or misplaced pieces, all at once`,
      unit: "pieces",
      parley: countPieceErrors(samples[path]),
      peer: { name: pathTitles.nginx, value: countPieceErrors(samples.nginx) },
      target: { upTo: 0 },
    },
  ];
}

/** Counts the errors in all rounds, because a median would hide a piece that was lost once. */
const countPieceErrors = (samples: AnswerSample[]): number =>
  samples.reduce((sum, { steady, crowd }) => sum + steady.pieceErrors + crowd.pieceErrors, 0);

/** Describes all figures of each path. */
export function describeAnswers(samples: AnswerSamples): string[] {
  return (Object.keys(pathTitles) as PathName[]).map((path) => {
    const formatMedian = (getValue: GetFigure) => formatNumber(medianBy(samples[path], getValue));
    const minConcurrent = Math.min(...samples[path].map(({ crowd }) => crowd.concurrentAnswers));
    const databaseNote = path.startsWith("parley")
      ? ` and ${formatMedian(({ databaseMs }) => databaseMs)} ms of Postgres`
      : "";
    return (
      `${pathTitles[path]}: first token p50 ${formatMedian(getP50Ms)} ms, p99 ${formatMedian(getP99Ms)} ms; ${formatMedian(getCpuMs)} ms CPU a stream${databaseNote}; ` +
      `between two pieces p99 ${formatMedian(getPieceIntervalMs)} ms more than sent; at once (${minConcurrent} or more of them): first token ` +
      `${formatMedian(getCrowdP50Ms)} and ${formatMedian(({ crowd }) => crowd.p99Ms)} ms, between two pieces ` +
      `${formatMedian(({ crowd }) => crowd.pieceIntervalMs)} ms, ${countPieceErrors(samples[path])} pieces lost or misplaced`
    );
  });
}
