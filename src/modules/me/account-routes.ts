import { Type } from "@sinclair/typebox";
import { getRequestId } from "../../http/request-id.ts";
import { type Route, route } from "../../http/route.ts";
import { createTextStream } from "../../http/stream-text.ts";
import type { Log } from "../../lib/log.ts";
import { Nullable } from "../../lib/schema.ts";
import { PasswordProof } from "../accounts/model.ts";
import type { AccountService } from "../accounts/service.ts";
import type { BudgetService } from "../budgets/service.ts";
import type { QuotaService } from "../quotas/service.ts";
import { AccountUsage } from "./model.ts";

const ME = "/api/v1/me";
const tag = "me";

type Dependencies = { accounts: AccountService; budgets: BudgetService; quotas: QuotaService; log: Log };

/** Creates the routes for the usage, data export and deletion of the caller's account. */
export const createAccountRoutes = ({ accounts, budgets, quotas, log }: Dependencies): Route[] => [
  route({
    method: "GET",
    path: `${ME}/usage`,
    operationId: "getMyUsage",
    summary: "Get my usage, budgets and quotas",
    tag,
    scope: "any",
    ok: AccountUsage,
    handle: async ({ caller }) => {
      const [budgetUsage, quotaUsage] = await Promise.all([budgets.getUsage(caller), quotas.getUsage(caller.user.id)]);
      return { ...budgetUsage, quotas: quotaUsage };
    },
  }),

  route({
    method: "DELETE",
    path: ME,
    operationId: "deleteMe",
    summary: "Delete my account",
    description:
      "Deletes all your personal data, and conversations without other members. Your messages in other conversations stay, without an author. Requires the current password, or a login within the last 5 minutes. The last administrator can't be deleted.",
    tag,
    scope: "session",
    body: Nullable(PasswordProof),
    problems: [409],
    handle: ({ caller, body }) => accounts.removeOwnAccount(caller, body?.current_password),
  }),

  route({
    method: "GET",
    path: `${ME}/export`,
    operationId: "exportMe",
    summary: "Export all my data",
    description:
      "Streams one JSON document with your user, preferences, sessions, API keys, memberships, messages and the responses to them, feedback, prompts, usage, and audit events about you.",
    tag,
    scope: "session",
    expensive: "download",
    ok: Type.Object({}, { additionalProperties: true }),
    responseHeaders: ["Content-Disposition"],
    handle: async ({ caller, set }) => {
      const chunks = await accounts.exportOwnData(caller);
      const onError = (err: unknown) => log.error({ request_id: getRequestId(set), err }, "export failed");
      return new Response(createTextStream(chunks, onError), {
        headers: {
          "content-type": "application/json",
          "content-disposition": 'attachment; filename="parley-export.json"',
          "cache-control": "no-store",
        },
      });
    },
  }),
];
