import type { CreateWebhook, Webhook, WebhookDelivery, WebhookWithSecret } from "../../src/modules/webhooks/model.ts";
import { startApp, type TestApp } from "../support/app.ts";
import { createRest, type Rest } from "../support/rest.ts";

export type Page<T> = { data: T[]; next_cursor: string | null };

/** A Parley whose webhooks may reach receivers on this machine, and its users. */
export async function startWebhooks(config: Record<string, string> = {}) {
  const parley: TestApp = await startApp({ config: { WEBHOOK_ALLOW_PRIVATE_NETWORKS: "true", ...config } });

  return {
    parley,
    stop: parley.stop,

    join: async (): Promise<Rest> => createRest(parley, await parley.register()),

    /** A user who is made an administrator right away, before any role is cached. */
    async joinAdmin(): Promise<Rest> {
      const account = await parley.register();
      await parley.database`update users set role = 'admin' where id = ${account.user.id}`;
      return createRest(parley, account);
    },
  };
}

export type WithWebhooks = Awaited<ReturnType<typeof startWebhooks>>;

/** A host name that doesn't exist, so nothing is ever delivered there. */
export const NOWHERE = "https://receiver.invalid/parley";

/** A new webhook of the user, for new messages unless the input says otherwise. */
export async function createWebhook(rest: Rest, input: Partial<CreateWebhook> = {}): Promise<WebhookWithSecret> {
  const body = { url: NOWHERE, events: ["message.created"], ...input };
  const answer = await rest.request<WebhookWithSecret>("POST", "/webhooks", body);
  if (answer.status !== 201) throw new Error(`webhook: ${answer.status} ${JSON.stringify(answer.body)}`);
  return answer.body;
}

export const readWebhook = async (rest: Rest, id: string): Promise<Webhook> =>
  (await rest.get<Webhook>(`/webhooks/${id}`)).body;

export const readDelivery = async (rest: Rest, webhookId: string, id: string): Promise<WebhookDelivery> =>
  (await rest.get<WebhookDelivery>(`/webhooks/${webhookId}/deliveries/${id}`)).body;

const WAIT_MS_MAX = 10_000;

/** Polls a delivery until it is in the expected state. @throws on a timeout. */
async function waitFor(rest: Rest, webhookId: string, id: string, isDone: (delivery: WebhookDelivery) => boolean) {
  const untilMs = performance.now() + WAIT_MS_MAX;
  for (;;) {
    const delivery = await readDelivery(rest, webhookId, id);
    if (isDone(delivery)) return delivery;
    if (performance.now() > untilMs) throw new Error(`The delivery is ${JSON.stringify(delivery)}.`);
    await Bun.sleep(10);
  }
}

export const waitForEnd = (rest: Rest, webhookId: string, id: string): Promise<WebhookDelivery> =>
  waitFor(rest, webhookId, id, ({ status }) => status !== "pending");

export const waitForAttempt = (rest: Rest, webhookId: string, id: string): Promise<WebhookDelivery> =>
  waitFor(rest, webhookId, id, ({ attempts }) => attempts > 0);
