import type { CreateWebhook, Webhook, WebhookDelivery, WebhookWithSecret } from "../../src/modules/webhooks/model.ts";
import { startApp, type TestApp } from "../support/app.ts";
import { createRestClient, type RestClient } from "../support/rest.ts";

export type Page<T> = { data: T[]; next_cursor: string | null };

/** Starts Parley with webhooks that can reach receivers on this machine. */
export async function startWebhooks(config: Record<string, string> = {}) {
  const parley: TestApp = await startApp({ config: { WEBHOOK_ALLOW_PRIVATE_NETWORKS: "true", ...config } });

  return {
    parley,
    stop: parley.stop,

    register: async (): Promise<RestClient> => createRestClient(parley, await parley.register()),

    /** Registers an administrator. The role is set in the database before the server caches it. */
    async registerAdmin(): Promise<RestClient> {
      const account = await parley.register();
      await parley.database`update users set role = 'admin' where id = ${account.user.id}`;
      return createRestClient(parley, account);
    },
  };
}

export type WebhookApp = Awaited<ReturnType<typeof startWebhooks>>;

/** A URL whose host doesn't exist, so that nothing is delivered. */
export const UNREACHABLE_URL = "https://receiver.invalid/parley";

/** Creates a webhook, by default for new messages. */
export async function createWebhook(rest: RestClient, input: Partial<CreateWebhook> = {}): Promise<WebhookWithSecret> {
  const body = { url: UNREACHABLE_URL, events: ["message.created"], ...input };
  const response = await rest.request<WebhookWithSecret>("POST", "/webhooks", body);
  if (response.status !== 201) throw new Error(`webhook: ${response.status} ${JSON.stringify(response.body)}`);
  return response.body;
}

export const getWebhook = async (rest: RestClient, id: string): Promise<Webhook> =>
  (await rest.get<Webhook>(`/webhooks/${id}`)).body;

export const getDelivery = async (rest: RestClient, webhookId: string, id: string): Promise<WebhookDelivery> =>
  (await rest.get<WebhookDelivery>(`/webhooks/${webhookId}/deliveries/${id}`)).body;

const WAIT_MS_MAX = 10_000;

/** Waits until a delivery is in the expected state. */
async function waitForDelivery(
  rest: RestClient,
  webhookId: string,
  id: string,
  isDone: (delivery: WebhookDelivery) => boolean,
) {
  const deadlineMs = performance.now() + WAIT_MS_MAX;
  for (;;) {
    const delivery = await getDelivery(rest, webhookId, id);
    if (isDone(delivery)) return delivery;
    if (performance.now() > deadlineMs) throw new Error(`The delivery is ${JSON.stringify(delivery)}.`);
    await Bun.sleep(10);
  }
}

export const waitUntilFinished = (rest: RestClient, webhookId: string, id: string): Promise<WebhookDelivery> =>
  waitForDelivery(rest, webhookId, id, ({ status }) => status !== "pending");

export const waitUntilAttempted = (rest: RestClient, webhookId: string, id: string): Promise<WebhookDelivery> =>
  waitForDelivery(rest, webhookId, id, ({ attempts }) => attempts > 0);
