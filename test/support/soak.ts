/** Whether `make soak` runs the tests. They then use real durations, which `make test` shortens. */
export const isSoakRun = process.env.SOAK === "on";
