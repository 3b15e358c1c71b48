/** Whether `make soak` runs the tests. If so, the tests use real durations, which `make test` shortens. */
export const isSoakRun = process.env.SOAK === "on";
