import { Type } from "@sinclair/typebox";

const QUOTA_MAX = 1e15;

const quota = (defaultCount: number, description: string) =>
  Type.Integer({ default: defaultCount, minimum: 0, maximum: QUOTA_MAX, description: `${description} 0: no limit.` });

/** How much one user may store; docs/limits.md explains the numbers. */
export const quotaSettings = {
  QUOTA_STORED_BYTES: quota(
    10 * 1024 ** 3,
    "Bytes (UTF-8) of messages and prompts that one user may store. Model replies don't count.",
  ),
  QUOTA_CONVERSATIONS: quota(100_000, "Conversations that one user created and is still a member of."),
  QUOTA_JOINED_CONVERSATIONS: quota(
    50_000,
    "Conversations of others that one user may be a member of. At the limit, nobody can add the user to another one.",
  ),
  QUOTA_PROMPTS: quota(1_000, "Prompts of one user."),
  QUOTA_PROMPT_VERSIONS: quota(1_000, "Versions of one prompt."),
  QUOTA_SESSIONS: quota(
    1_000,
    "Open sessions of one user. At the limit, a login ends the least recently used session.",
  ),
  QUOTA_FEEDBACK: quota(100_000, "Model replies that one user may rate."),
  QUOTA_API_KEYS: quota(100, "API keys of one user, including expired ones."),
  QUOTA_WEBHOOKS: quota(20, "Webhooks of one user, including disabled ones."),
};

/** Limits of an import. */
export const importSettings = {
  IMPORT_BYTES_MAX: Type.Integer({
    default: 512 * 1024 ** 2,
    minimum: 1_024,
    maximum: 8 * 1024 ** 3,
    description:
      "Maximum size of an import file (`POST /api/v1/imports`) in bytes, and of a ZIP archive's unpacked content.",
  }),
};
