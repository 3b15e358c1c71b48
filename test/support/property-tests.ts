import fc from "fast-check";

/** Every test run uses the same samples, so a new failure must have been caused by the change under test. */
const DEFAULT_SEED = 20_260_101;
const DEFAULT_RUNS = 100;

/** The seed of all property tests. `PROPERTY_SEED` overrides it, and `make fuzz` uses a random one. */
export const propertySeed = parseNumberFromEnv("PROPERTY_SEED") ?? DEFAULT_SEED;

/** The factor by which the number of samples of each property is multiplied. `make fuzz` sets it. */
export const propertyFactor = parseNumberFromEnv("PROPERTY_FACTOR") ?? 1;

/** Multiplies a number of samples by `propertyFactor`. */
export const scaleRuns = (runs: number): number => Math.ceil(runs * propertyFactor);

/** Configures fast-check. Its failure report includes the seed. */
export function configurePropertyTests(): void {
  fc.configureGlobal({ seed: propertySeed, numRuns: scaleRuns(DEFAULT_RUNS) });
}

function parseNumberFromEnv(name: string): number | undefined {
  const text = process.env[name];
  if (text === undefined) return undefined;
  const number = Number(text);
  if (text === "" || !Number.isFinite(number))
    throw new Error(`${name} must be a number, not ${JSON.stringify(text)}.`);
  return number;
}
