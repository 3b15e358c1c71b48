import type { Idempotency } from "../../src/http/idempotency.ts";

/** For apps that are put together out of a few modules: `Idempotency-Key` means nothing there. */
export const noIdempotency: Idempotency = {
  begin: async () => undefined,
  isRunning: () => false,
  end: async () => new Response(),
};
