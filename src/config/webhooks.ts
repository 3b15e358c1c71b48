import { OneOf } from "../lib/schema.ts";

/** Webhook settings; see docs/webhooks.md. */
export const webhookSettings = {
  WEBHOOK_ALLOW_PRIVATE_NETWORKS: OneOf(["true", "false"], {
    default: "false",
    description:
      "Whether webhooks may send requests to private, loopback and link-local addresses. `true` lets every user reach services in " +
      "the server's own network.",
  }),
};
