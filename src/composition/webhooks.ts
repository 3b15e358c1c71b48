import { OutgoingError, RefusedAddressError } from "../lib/outgoing/errors.ts";
import { sendGuarded } from "../lib/outgoing/send-guarded.ts";
import { createDeliveryControl } from "../modules/webhooks/delivery/control.ts";
import { createWebhookDispatcher } from "../modules/webhooks/delivery/dispatcher.ts";
import { createWebhookSecrets } from "../modules/webhooks/secrets.ts";
import { createWebhookService } from "../modules/webhooks/service.ts";
import type { Core } from "./core.ts";
import type { People } from "./domain.ts";

/** Webhooks, by which others are told of events. */
export function createWebhooks(core: Core, { audit, quotas }: People) {
  const { database, config, log, metrics, parts, jobs, events, instanceId, jwtSecret } = core;
  const secrets = createWebhookSecrets(jwtSecret);
  const allowsPrivate = config.WEBHOOK_ALLOW_PRIVATE_NETWORKS === "true";
  const dispatcher = createWebhookDispatcher({
    database,
    audit,
    metrics,
    log,
    instanceId,
    secrets,
    send: sendGuarded,
    isForUsers: (error): error is Error => error instanceof OutgoingError || error instanceof RefusedAddressError,
    allowsPrivate,
  });
  events.whenAppended(dispatcher.nudge);
  parts.add({ name: "webhooks", after: ["jobs"], stop: dispatcher.stop });
  const deliveries = createDeliveryControl(dispatcher);
  const webhooks = createWebhookService({ database, audit, quotas, jobs, secrets, deliveries, allowsPrivate });
  return { webhooks, dispatcher };
}
