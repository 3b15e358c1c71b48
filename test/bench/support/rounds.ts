/** One side of a comparison: measures once. */
export type Side<Sample> = () => Promise<Sample>;

/**
 * Measures the sides in turn, round after round, so that other load on the machine affects all of them. A first round is not
 * counted: it warms up compilers, caches and tables.
 */
export async function runRounds<Sides extends Record<string, Side<unknown>>>(
  sides: Sides,
  rounds: number,
): Promise<{ [Name in keyof Sides]: Awaited<ReturnType<Sides[Name]>>[] }> {
  const names = Object.keys(sides);
  const samples = Object.fromEntries(names.map((name) => [name, [] as unknown[]]));
  for (let round = 0; round <= rounds; round += 1)
    for (const name of names) {
      const sample = await sides[name]?.();
      if (round > 0) samples[name]?.push(sample);
    }
  return samples as { [Name in keyof Sides]: Awaited<ReturnType<Sides[Name]>>[] };
}

/** The middle one; for an even number, the mean of the middle two. */
export function median(values: number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length / 2;
  const low = sorted[Math.ceil(middle) - 1] ?? Number.NaN;
  return (low + (sorted[Math.floor(middle)] ?? Number.NaN)) / 2;
}

export const medianOf = <Sample>(samples: Sample[], read: (sample: Sample) => number): number =>
  median(samples.map(read));
