/** `make soak`: real durations, where `make test` has shorter ones that prove the same. */
export const isSoak = process.env.SOAK === "on";
