import { Type } from "@sinclair/typebox";
import { computeTag, parsePrecondition, respondWithTag, setETag } from "../../http/etag.ts";
import { createPage, Page, PageQuery, parsePageQuery } from "../../http/pagination.ts";
import { type Route, route } from "../../http/route.ts";
import { UuidParam } from "../../lib/schema.ts";
import { ChangeWebhook, CreateWebhook, DeliveryQuery, Webhook, WebhookDelivery, WebhookWithSecret } from "./model.ts";
import { mapToDelivery, mapToWebhook } from "./queries.ts";
import type { WebhookService } from "./service.ts";

const WebhookParams = Type.Object({ id: UuidParam() });
const DeliveryParams = Type.Object({ id: UuidParam(), delivery_id: UuidParam() });

const WEBHOOKS = "/api/v1/webhooks";
const tag = "webhooks";
const readScope = "webhooks:read";
const writeScope = "webhooks:write";

type Dependencies = { webhooks: WebhookService };

/** Creates the routes of `/api/v1/webhooks`. */
export const createWebhookRoutes = ({ webhooks }: Dependencies): Route[] => [
  route({
    method: "POST",
    path: WEBHOOKS,
    operationId: "createWebhook",
    summary: "Create a webhook (only this response contains its secret)",
    tag,
    scope: writeScope,
    body: CreateWebhook,
    ok: WebhookWithSecret,
    status: 201,
    responseHeaders: ["Location"],
    handle: async ({ caller, body, set }) => {
      const webhook = await webhooks.create(caller, body);
      set.headers.location = `${WEBHOOKS}/${webhook.id}`;
      return webhook;
    },
  }),

  route({
    method: "GET",
    path: WEBHOOKS,
    operationId: "listWebhooks",
    summary: "List my webhooks, newest first",
    tag,
    scope: readScope,
    query: Type.Object(PageQuery),
    ok: Page(Webhook),
    handle: async ({ caller, query, request, set }) => {
      const page = parsePageQuery(query, 1);
      const rows = await webhooks.list(caller, page);
      return createPage(rows, page.limit, (row) => [row.id], mapToWebhook, { request, headers: set.headers });
    },
  }),

  route({
    method: "GET",
    path: `${WEBHOOKS}/:id`,
    operationId: "getWebhook",
    summary: "Get one of my webhooks",
    tag,
    scope: readScope,
    params: WebhookParams,
    ok: Webhook,
    isTagged: true,
    handle: async ({ caller, params, request }) => {
      const body = JSON.stringify(await webhooks.get(caller, params.id));
      return respondWithTag(request, computeTag(body), body, { "content-type": "application/json" });
    },
  }),

  route({
    method: "PATCH",
    path: `${WEBHOOKS}/:id`,
    operationId: "changeWebhook",
    summary: "Change, disable or enable one of my webhooks",
    tag,
    scope: writeScope,
    params: WebhookParams,
    body: ChangeWebhook,
    ok: Webhook,
    supportsIfMatch: true,
    handle: async ({ caller, params, body, request, set }) =>
      setETag(set.headers, await webhooks.change(caller, params.id, body, parsePrecondition(request))),
  }),

  route({
    method: "DELETE",
    path: `${WEBHOOKS}/:id`,
    operationId: "deleteWebhook",
    summary: "Delete one of my webhooks, with its deliveries",
    tag,
    scope: writeScope,
    params: WebhookParams,
    supportsIfMatch: true,
    handle: ({ caller, params, request }) => webhooks.remove(caller, params.id, parsePrecondition(request)),
  }),

  route({
    method: "POST",
    path: `${WEBHOOKS}/:id/rotate-secret`,
    operationId: "rotateWebhookSecret",
    summary: "Rotate the secret (for 24 hours, deliveries are also signed with the previous one)",
    tag,
    scope: writeScope,
    params: WebhookParams,
    ok: WebhookWithSecret,
    handle: ({ caller, params }) => webhooks.rotate(caller, params.id),
  }),

  route({
    method: "POST",
    path: `${WEBHOOKS}/:id/test`,
    operationId: "testWebhook",
    summary: "Send a `webhook.test` event, regardless of the subscribed events",
    tag,
    scope: writeScope,
    params: WebhookParams,
    ok: WebhookDelivery,
    status: 202,
    problems: [409],
    handle: ({ caller, params }) => webhooks.test(caller, params.id),
  }),

  route({
    method: "GET",
    path: `${WEBHOOKS}/:id/deliveries`,
    operationId: "listWebhookDeliveries",
    summary: "List a webhook's deliveries from the last 30 days, newest first",
    tag,
    scope: readScope,
    params: WebhookParams,
    query: DeliveryQuery,
    ok: Page(WebhookDelivery),
    handle: async ({ caller, params, query, request, set }) => {
      const page = parsePageQuery(query, 1);
      const rows = await webhooks.listDeliveries(caller, params.id, query.status, page);
      return createPage(rows, page.limit, (row) => [row.id], mapToDelivery, { request, headers: set.headers });
    },
  }),

  route({
    method: "GET",
    path: `${WEBHOOKS}/:id/deliveries/:delivery_id`,
    operationId: "getWebhookDelivery",
    summary: "Get a delivery",
    tag,
    scope: readScope,
    params: DeliveryParams,
    ok: WebhookDelivery,
    handle: ({ caller, params }) => webhooks.getDelivery(caller, params.id, params.delivery_id),
  }),

  route({
    method: "POST",
    path: `${WEBHOOKS}/:id/deliveries/:delivery_id/redeliver`,
    operationId: "redeliverWebhookDelivery",
    summary: "Redeliver an event with the same `webhook-id`, and reset its attempts",
    tag,
    scope: writeScope,
    params: DeliveryParams,
    ok: WebhookDelivery,
    status: 202,
    problems: [409],
    handle: ({ caller, params }) => webhooks.redeliver(caller, params.id, params.delivery_id),
  }),
];
