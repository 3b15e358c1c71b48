import { Type } from "@sinclair/typebox";
import { Elysia } from "elysia";
import type { Authenticate } from "../../http/authenticate.ts";
import { describe } from "../../http/openapi.ts";
import { readRequestId } from "../../http/request-id.ts";
import type { Log } from "../../lib/log.ts";
import { Nullable } from "../../lib/schema.ts";
import { streamText } from "./export.ts";
import { PasswordProof } from "./model.ts";
import type { AccountService } from "./service.ts";

type Dependencies = { accounts: AccountService; authenticate: Authenticate; log: Log };

/** The caller's own account as a whole: all that is stored of it, and its end. */
export function createOwnRoutes({ accounts, authenticate, log }: Dependencies) {
  return new Elysia({ name: "accounts-me", prefix: "/me" })
    .use(authenticate)
    .delete(
      "",
      async ({ caller, body, set }) => {
        await accounts.removeOwn(caller, body?.password);
        set.status = 204;
      },
      {
        body: Nullable(PasswordProof),
        ...describe({
          operationId: "deleteMe",
          scope: "session",
          summary: "Delete my account",
          description:
            "Everything personal is deleted, and conversations that nobody else is in. Messages in others stay, without an author. A password that is sent along must be right. The last administrator cannot go.",
          tag: "me",
          problems: [403, 409],
        }),
      },
    )
    .get(
      "/export",
      async ({ caller, set }) => {
        const pieces = await accounts.exportOwn(caller);
        const onFault = (err: unknown) => log.error({ request_id: readRequestId(set), err }, "an export broke off");
        return new Response(streamText(pieces, onFault), {
          headers: {
            "content-type": "application/json",
            "content-disposition": 'attachment; filename="parley-export.json"',
            "cache-control": "no-store",
          },
        });
      },
      describe({
        operationId: "exportMe",
        scope: "session",
        summary: "All that is stored of me",
        description:
          "User, preferences, sessions, keys, memberships, own messages and the answers to them, feedback, prompts, usage and what the audit record says of me, as one streamed document.",
        tag: "me",
        ok: Type.Object({}, { additionalProperties: true }),
      }),
    );
}
