import { ProxyError } from "../lib/http-client/errors.ts";
import { addSkippedLineCount, createLogLineLimit } from "../lib/line-limit.ts";
import { OutgoingError, RejectedAddressError } from "../lib/outgoing/errors.ts";
import { createGuardedSender, type GuardedRequest } from "../lib/outgoing/send-guarded.ts";
import { createDeliveryControl } from "../modules/webhooks/delivery/control.ts";
import { createWebhookDispatcher } from "../modules/webhooks/delivery/dispatcher.ts";
import { createWebhookSecrets } from "../modules/webhooks/secrets.ts";
import { createWebhookService } from "../modules/webhooks/service.ts";
import type { Core } from "./core.ts";
import type { UserServices } from "./domain.ts";

/** Creates the services for webhooks, which deliver events to other servers. */
export function createWebhookServices(core: Core, { audit, quotas }: UserServices) {
  const { database, config, log, metrics, components, jobs, events, instanceId, jwtSecret, findProxy, tracing } = core;
  const secrets = createWebhookSecrets(jwtSecret);
  const allowPrivate = config.WEBHOOK_ALLOW_PRIVATE_NETWORKS === "true";
  const sendGuarded = createGuardedSender(undefined, findProxy);
  const admitLine = createLogLineLimit();
  /** Sends a request. Logs the proxy's errors for the administrator; the owner of the webhook doesn't see them. */
  const send = (request: GuardedRequest) =>
    sendGuarded(request).catch((error: Error) => {
      const skippedLines = error.cause instanceof ProxyError ? admitLine("proxy") : null;
      if (skippedLines !== null)
        log.warn(
          addSkippedLineCount({ err: error.cause, host: request.url.host }, skippedLines),
          "the proxy rejected webhooks",
        );
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
    hasUserMessage: (error): error is Error => error instanceof OutgoingError || error instanceof RejectedAddressError,
    allowPrivate,
    tracing,
  });
  events.onAppended(dispatcher.nudge);
  components.add({ name: "webhooks", after: ["jobs"], stop: dispatcher.stop });
  const deliveries = createDeliveryControl(dispatcher);
  const webhooks = createWebhookService({
    database,
    audit,
    quotas,
    jobs,
    secrets,
    deliveries,
    allowPrivate,
  });
  return { webhooks, dispatcher };
}
