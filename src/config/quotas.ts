import { Type } from "@sinclair/typebox";

const QUOTA_MAX = 1e15;

const quotaSetting = (defaultCount: number, description: string) =>
  Type.Integer({
    default: defaultCount,
    minimum: 0,
    maximum: QUOTA_MAX,
    description: `${description} 0 means no limit.`,
  });

/** Limits on what a user may store; docs/limits.md explains the defaults. */
export const quotaSettings = {
  QUOTA_STORED_BYTES: quotaSetting(
    10 * 1024 ** 3,
    "Maximum bytes (UTF-8) of messages and prompts that a user may store. Answers from models don't count.",
  ),
  QUOTA_CONVERSATIONS: quotaSetting(
    100_000,
    "Maximum number of conversations that a user has created and is still a member of.",
  ),
  QUOTA_JOINED_CONVERSATIONS: quotaSetting(
    50_000,
    "Maximum number of other users' conversations that a user may be a member of. At the limit, nobody can add the user to " +
      "more conversations.",
  ),
  QUOTA_PROMPTS: quotaSetting(1_000, "Maximum number of prompts per user."),
  QUOTA_PROMPT_VERSIONS: quotaSetting(1_000, "Maximum number of versions per prompt."),
  QUOTA_SESSIONS: quotaSetting(
    1_000,
    "Maximum number of sessions per user. At the limit, a login ends the least recently used session.",
  ),
  QUOTA_FEEDBACK: quotaSetting(100_000, "Maximum number of answers from models that a user may rate."),
  QUOTA_API_KEYS: quotaSetting(100, "Maximum number of API keys per user, including expired ones."),
  QUOTA_WEBHOOKS: quotaSetting(20, "Maximum number of webhooks per user, including disabled ones."),
};

/** Import limits. */
export const importSettings = {
  IMPORT_BYTES_MAX: Type.Integer({
    default: 512 * 1024 ** 2,
    minimum: 1_024,
    maximum: 8 * 1024 ** 3,
    description:
      "Maximum size in bytes of an import file (`POST /api/v1/imports`), and of the unpacked content of a ZIP archive.",
  }),
};
