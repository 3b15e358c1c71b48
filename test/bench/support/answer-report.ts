import type { SideName } from "./answer-sides.ts";
import { type Line, show } from "./report.ts";
import { medianOf } from "./rounds.ts";

export type Arrival = {
  /** From the request to the first piece. */
  p50Ms: number;
  p99Ms: number;
  /** The p99 of the interval between two pieces, minus that of the provider. */
  distanceMs: number;
  /** Lost or misplaced pieces. */
  damaged: number;
  /** The maximum number of concurrent answers. */
  atOnce: number;
};
/** `cpuMs` and `databaseMs` are per stream of the steady answers. */
export type AnswerSample = { steady: Arrival; crowd: Arrival; cpuMs: number; databaseMs: number };
export type AnswerSamples = Record<SideName, AnswerSample[]>;

type Read = (sample: AnswerSample) => number;
type Figure = {
  what: string;
  unit: string;
  read: Read;
  /** The figure of the direct connection is subtracted. */
  isAdded?: boolean;
  peer: SideName;
  bound?: Line["bound"];
};

const titles: Record<SideName, string> = {
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
const distance: Read = ({ steady }) => steady.distanceMs;

const first = { unit: "ms", isAdded: true };
const figures: Figure[] = [
  { ...first, what: "first token, p50", read: p50, peer: "nginx", bound: { abovePeer: 1 } },
  { ...first, what: "first token, p50", read: p50, peer: "direct", bound: { upTo: 3 } },
  { ...first, what: "first token, p50", read: p50, peer: "portkey", bound: { atMost: 0.2 } },
  { ...first, what: "first token, p99", read: p99, peer: "nginx", bound: { upTo: 15 } },
  { ...first, what: "first token, p99", read: p99, peer: "portkey" },
  { what: "a stream", unit: "ms CPU", read: cpu, peer: "nginx", bound: { atMost: 3 } },
  { what: "a stream", unit: "ms CPU", read: cpu, peer: "portkey", bound: { atMost: 1 } },
  { what: "between two pieces, p99", unit: "ms", read: distance, peer: "nginx", bound: { upTo: 5 } },
  { ...first, what: "first token of all at once, p50", read: crowdP50, peer: "nginx" },
  { ...first, what: "first token of all at once, p50", read: crowdP50, peer: "portkey" },
];

/** The overhead of each of Parley's APIs, compared with nginx and Portkey, with the goals. */
export function reportAnswers(samples: AnswerSamples, side: "parley" | "parleyV1"): Line[] {
  const toLine = ({ what, unit, read, isAdded = false, peer, bound }: Figure): Line => {
    const value = (of: SideName) => medianOf(samples[of], read) - (isAdded ? medianOf(samples.direct, read) : 0);
    return {
      what: `${titles[side]}: ${isAdded ? "added to the " : ""}${what}`,
      unit,
      parley: value(side),
      ...(peer !== "direct" && { peer: { name: titles[peer], value: value(peer) } }),
      ...(bound && { bound }),
    };
  };
  return [
    ...figures.map(toLine),
    {
      what: `${titles[side]}: lost or misplaced pieces, all at once`,
      unit: "pieces",
      parley: countDamaged(samples[side]),
      peer: { name: titles.nginx, value: countDamaged(samples.nginx) },
      bound: { upTo: 0 },
    },
  ];
}

/** Over all rounds: a median would hide a piece that was lost once. */
const countDamaged = (of: AnswerSample[]): number =>
  of.reduce((sum, { steady, crowd }) => sum + steady.damaged + crowd.damaged, 0);

/** All figures of all sides. */
export function describeAnswers(samples: AnswerSamples): string[] {
  return (Object.keys(titles) as SideName[]).map((side) => {
    const median = (read: Read) => show(medianOf(samples[side], read));
    const least = Math.min(...samples[side].map(({ crowd }) => crowd.atOnce));
    const database = side.startsWith("parley") ? ` and ${median(({ databaseMs }) => databaseMs)} ms of Postgres` : "";
    return (
      `${titles[side]}: first token p50 ${median(p50)} ms, p99 ${median(p99)} ms; ${median(cpu)} ms CPU a stream${database}; ` +
      `between two pieces p99 ${median(distance)} ms more than sent; at once (${least} or more of them): first token ` +
      `${median(crowdP50)} and ${median(({ crowd }) => crowd.p99Ms)} ms, between two pieces ` +
      `${median(({ crowd }) => crowd.distanceMs)} ms, ${countDamaged(samples[side])} pieces lost or misplaced`
    );
  });
}
