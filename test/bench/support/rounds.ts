/** Measures one sample. */
export type Measurement<Sample> = () => Promise<Sample>;

/**
 * Measures one sample of each measurement per round, so that other load on the machine affects all measurements. The
 * first round doesn't count, because it warms up compilers, caches and tables.
 */
export async function runRounds<Measurements extends Record<string, Measurement<unknown>>>(
  measurements: Measurements,
  rounds: number,
): Promise<{ [Name in keyof Measurements]: Awaited<ReturnType<Measurements[Name]>>[] }> {
  const names = Object.keys(measurements);
  const samples = Object.fromEntries(names.map((name) => [name, [] as unknown[]]));
  for (let round = 0; round <= rounds; round += 1)
    for (const name of names) {
      const sample = await measurements[name]?.();
      if (round > 0) samples[name]?.push(sample);
    }
  return samples as { [Name in keyof Measurements]: Awaited<ReturnType<Measurements[Name]>>[] };
}

/** Returns the median. */
export function median(values: number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length / 2;
  const low = sorted[Math.ceil(middle) - 1] ?? Number.NaN;
  return (low + (sorted[Math.floor(middle)] ?? Number.NaN)) / 2;
}

export const medianBy = <Sample>(samples: Sample[], getValue: (sample: Sample) => number): number =>
  median(samples.map(getValue));
