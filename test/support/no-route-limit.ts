import { createRateLimit } from "../../src/http/rate-limit.ts";

/** For apps that are put together out of a few modules: routes count for nobody. */
export const noRouteLimit = createRateLimit({
  limits: { isLocal: true, countAddress: () => null, countCaller: () => null },
  findLimit: () => "read",
  readClientAddress: () => null,
}).ofRoute;
