import type { DeliveryControl } from "../service.ts";
import type { WebhookDispatcher } from "./dispatcher.ts";
import { addDelivery, enableWebhook, redeliver } from "./outbox.ts";
import { disableWebhook } from "./results.ts";

/** Creates the operations that the webhook service needs from this folder. They run in the service's transactions. */
export const createDeliveryControl = ({ checkSoon }: Pick<WebhookDispatcher, "checkSoon">): DeliveryControl => ({
  addDelivery,
  redeliver,
  async disable(sql, id, reason) {
    await disableWebhook(sql, id, reason);
  },
  enable: enableWebhook,
  nudge: checkSoon,
});
