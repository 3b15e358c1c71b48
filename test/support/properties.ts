import fc from "fast-check";

/** The same trials in every run, so that a change is judged by what it changes. */
const FIXED_SEED = 20_260_101;
const RUNS_DEFAULT = 100;

/** Of all property tests of this run. `PROPERTY_SEED` names another one; `make fuzz` takes a random one. */
export const propertySeed = readNumber("PROPERTY_SEED") ?? FIXED_SEED;

/** How much longer than usual the property tests look: `make fuzz` sets it. */
export const propertyFactor = readNumber("PROPERTY_FACTOR") ?? 1;

/** How often a property is tried that is tried `runs` times by `make test`. */
export const countRuns = (runs: number): number => Math.ceil(runs * propertyFactor);

/** For all properties; the report of one that fails names the seed. */
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
