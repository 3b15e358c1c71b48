/** `make soak`: times are as long as in the world, where `make test` has shorter ones that prove the same. */
export const isSoak = process.env.SOAK === "on";
