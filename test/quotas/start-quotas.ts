import type { ProblemBody } from "../../src/http/problem-response.ts";
import type { QuotaName, Quotas } from "../../src/modules/quotas/model.ts";
import { startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { createRestClient, type RestClient } from "../support/rest.ts";

/** Starts Parley with the given settings. */
export async function startQuotas(config: Record<string, string>) {
  const parley: TestApp = await startApp({ config });

  return {
    parley,
    stop: parley.stop,
    register: async (): Promise<RestClient> => createRestClient(parley, await parley.register()),
    createConversation: async (owner: RestClient): Promise<string> =>
      (await createConversation(parley, owner.account)).id,
  };
}

export type QuotaApp = Awaited<ReturnType<typeof startQuotas>>;

export const getQuotas = async (rest: RestClient): Promise<Quotas> =>
  (await rest.get<{ quotas: Quotas }>("/me/usage")).body.quotas;

/** Returns the expected error response when the quota is exceeded. */
export const createQuotaProblem = (quota: QuotaName): Partial<ProblemBody> => ({
  status: 403,
  code: "quota_exceeded",
  type: "/problems/quota_exceeded",
  violated_policies: [quota],
});
