import { ProxyError } from "../lib/http-client/errors.ts";
import { addSkipped, createLineLimit } from "../lib/line-limit.ts";
import { OutgoingError, RefusedAddressError } from "../lib/outgoing/errors.ts";
import { createGuardedSender, type GuardedRequest } from "../lib/outgoing/send-guarded.ts";
import { createDeliveryControl } from "../modules/webhooks/delivery/control.ts";
import { createWebhookDispatcher } from "../modules/webhooks/delivery/dispatcher.ts";
import { createWebhookSecrets } from "../modules/webhooks/secrets.ts";
import { createWebhookService } from "../modules/webhooks/service.ts";
import type { Core } from "./core.ts";
import type { People } from "./domain.ts";

/** Webhooks, which deliver events to other servers. */
export function createWebhooks(core: Core, { audit, quotas }: People) {
  const { database, config, log, metrics, parts, jobs, events, instanceId, jwtSecret, findProxy } = core;
  const secrets = createWebhookSecrets(jwtSecret);
  const allowsPrivate = config.WEBHOOK_ALLOW_PRIVATE_NETWORKS === "true";
  const sendGuarded = createGuardedSender(undefined, findProxy);
  const limitLines = createLineLimit();
  /** Proxy errors are logged for the administrator, and hidden from the owner of the webhook. */
  const send = (request: GuardedRequest) =>
    sendGuarded(request).catch((error: Error) => {
      const skipped = error.cause instanceof ProxyError ? limitLines("proxy") : null;
      if (skipped !== null)
        log.warn(addSkipped({ err: error.cause, host: request.url.host }, skipped), "the proxy refused webhooks");
      throw error;
    });
  const dispatcher = createWebhookDispatcher({
    database,
    audit,
    metrics,
    log,
    instanceId,
    secrets,
    send,
    isForUsers: (error): error is Error => error instanceof OutgoingError || error instanceof RefusedAddressError,
    allowsPrivate,
  });
  events.whenAppended(dispatcher.nudge);
  parts.add({ name: "webhooks", after: ["jobs"], stop: dispatcher.stop });
  const deliveries = createDeliveryControl(dispatcher);
  const webhooks = createWebhookService({ database, audit, quotas, jobs, secrets, deliveries, allowsPrivate });
  return { webhooks, dispatcher };
}
