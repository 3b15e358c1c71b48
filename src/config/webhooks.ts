import { OneOf } from "../lib/schema.ts";

/** How webhooks are delivered; docs/webhooks.md explains it. */
export const webhookSettings = {
  WEBHOOK_ALLOW_PRIVATE_NETWORKS: OneOf(["true", "false"], {
    default: "false",
    description:
      "Whether webhooks may call private, loopback and link-local addresses. With `true`, every user can reach services of the server's own network.",
  }),
};
