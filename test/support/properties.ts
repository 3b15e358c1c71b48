import fc from "fast-check";

/** The same samples in every test run, so that a failure comes from the change under test. */
const FIXED_SEED = 20_260_101;
const RUNS_DEFAULT = 100;

/** For all property tests of this test run. `PROPERTY_SEED` sets another one; `make fuzz` uses a random one. */
export const propertySeed = readNumber("PROPERTY_SEED") ?? FIXED_SEED;

/** How many times longer than usual the property tests run: `make fuzz` sets it. */
export const propertyFactor = readNumber("PROPERTY_FACTOR") ?? 1;

/** The number of samples for a property that `make test` checks with `runs` samples. */
export const countRuns = (runs: number): number => Math.ceil(runs * propertyFactor);

/** For all properties; the report of a failing one names the seed. */
export function configureProperties(): void {
  fc.configureGlobal({ seed: propertySeed, numRuns: countRuns(RUNS_DEFAULT) });
}

function readNumber(name: string): number | undefined {
  const text = process.env[name];
  if (text === undefined) return undefined;
  const number = Number(text);
  if (text === "" || !Number.isFinite(number))
    throw new Error(`${name} must be a number, not ${JSON.stringify(text)}.`);
  return number;
}
