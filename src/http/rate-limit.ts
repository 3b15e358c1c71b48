import { Elysia } from "elysia";
import type { AddressClass, CallerClass, Limits, Outcome, Subject } from "../limits/limits.ts";
import type { ReadClientAddress } from "./client-address.ts";
import type { FindLimit } from "./find-limit.ts";

/** What costs something. Health, metrics and pages are never limited: whoever watches a flood has to see it. */
const limitedUrl = /^(?:[a-z]+:\/\/[^/]*)?\/(?:api|v1|realtime)(?:[/?]|$)/;

type Headers = Record<string, string | number | undefined>;
type Dependencies = {
  limits: Pick<Limits, "isLocal" | "countAddress" | "countCaller">;
  findLimit: FindLimit;
  readClientAddress: ReadClientAddress;
};

/** Counts a request of a caller, and says in `headers` what is left. @throws Problem `rate_limited`. */
export type CountRequest = (caller: Subject, method: string, route: string, headers: Headers) => Promise<void> | void;

/** All limits that requests meet; frames meet their own. */
export function createRateLimit({ limits, findLimit, readClientAddress }: Dependencies) {
  function tell(outcome: Outcome, headers: Headers): void {
    if (!outcome) return;
    headers["ratelimit-policy"] = outcome.policy;
    headers.ratelimit = outcome.state;
  }

  async function tellLater(outcome: Promise<Outcome>, headers: Headers): Promise<void> {
    tell(await outcome, headers);
  }

  function countFor(outcome: Outcome | Promise<Outcome>, headers: Headers): Promise<void> | void {
    if (outcome instanceof Promise) return tellLater(outcome, headers);
    tell(outcome, headers);
  }

  const countRequest: CountRequest = (caller, method, route, headers) => {
    const limit = findLimit(method, route);
    if (!isAddressClass(limit)) return countFor(limits.countCaller(limit, caller), headers);
  };

  return {
    /** Every request of a client address, before anything else is looked at. */
    byAddress: limits.isLocal
      ? new Elysia({ name: "rate-limit" }).onRequest(({ request, server }) => {
          if (limitedUrl.test(request.url)) limits.countAddress("address", readClientAddress(request, server));
        })
      : new Elysia({ name: "rate-limit" }).onRequest(async ({ request, server }) => {
          if (limitedUrl.test(request.url)) await limits.countAddress("address", readClientAddress(request, server));
        }),

    /** For the routes of an instance that declare an address class: by what route they came, not by how it was written. */
    ofRoute: new Elysia({ name: "rate-limit-of-route" }).onTransform(
      { as: "scoped" },
      async ({ request, server, route, set }) => {
        const limit = findLimit(request.method, route);
        if (!isAddressClass(limit)) return;
        await countFor(limits.countAddress(limit, readClientAddress(request, server)), set.headers);
      },
    ),

    /** For whoever finds out who calls. What is counted by the address has been counted. */
    countRequest,
  };
}

export type RateLimit = ReturnType<typeof createRateLimit>;

const isAddressClass = (limit: AddressClass | CallerClass): limit is AddressClass =>
  limit === "auth" || limit === "renew";
