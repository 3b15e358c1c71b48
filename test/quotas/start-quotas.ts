import type { ProblemBody } from "../../src/http/problem-response.ts";
import type { QuotaName, Quotas } from "../../src/modules/quotas/model.ts";
import { startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { createRest, type Rest } from "../support/rest.ts";

/** A Parley with these quotas, by their names in the environment, and its users. */
export async function startQuotas(config: Record<string, string>) {
  const parley: TestApp = await startApp({ config });

  return {
    parley,
    stop: parley.stop,
    join: async (): Promise<Rest> => createRest(parley, await parley.register()),
    openConversation: async (owner: Rest): Promise<string> => (await createConversation(parley, owner.account)).id,
  };
}

export type WithQuotas = Awaited<ReturnType<typeof startQuotas>>;

export const readQuotas = async (rest: Rest): Promise<Quotas> =>
  (await rest.get<{ quotas: Quotas }>("/me/usage")).body.quotas;

/** The expected refusal by this quota. */
export const refusedBy = (quota: QuotaName): Partial<ProblemBody> => ({
  status: 403,
  code: "quota_exceeded",
  type: "/problems/quota_exceeded",
  violated_policies: [quota],
});
