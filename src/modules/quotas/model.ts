import { type Static, Type } from "@sinclair/typebox";
import { Named, Nullable } from "../../lib/schema.ts";

/** The resources that are limited per user. */
export const quotaNames = [
  "stored_bytes",
  "conversations",
  "joined_conversations",
  "prompts",
  "prompt_versions",
  "sessions",
  "feedback",
  "api_keys",
  "webhooks",
] as const;
export type QuotaName = (typeof quotaNames)[number];

const descriptions: Record<QuotaName, string> = {
  stored_bytes: "Size of the messages and prompts that I wrote, in UTF-8 bytes.",
  conversations: "Conversations that I created.",
  joined_conversations: "Other users' conversations that I am a member of.",
  prompts: "My prompts.",
  prompt_versions: "Versions per prompt. `used` is the highest number of versions that any of my prompts has.",
  sessions: "My sessions. At the limit, a login ends the least recently used one.",
  feedback: "Answers that I have rated.",
  api_keys: "My API keys, including expired ones.",
  webhooks: "My webhooks, including disabled ones.",
};

const Quota = (description: string) =>
  Type.Object(
    {
      used: Type.Integer(),
      limit: Nullable(Type.Integer({ description: "Null if there is no limit." })),
    },
    { description },
  );

export const Quotas = Named(
  "Quotas",
  Type.Object(
    Object.fromEntries(quotaNames.map((name) => [name, Quota(descriptions[name])])) as Record<
      QuotaName,
      ReturnType<typeof Quota>
    >,
    { description: "Stored amounts and their limits. Requests that exceed a limit fail with `quota_exceeded` (403)." },
  ),
);
export type Quotas = Static<typeof Quotas>;
