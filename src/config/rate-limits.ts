import { Type } from "@sinclair/typebox";
import { OneOf } from "../lib/schema.ts";

const COUNT_MAX = 1_000_000_000;

const countSetting = (defaultCount: number, description: string) =>
  Type.Integer({ default: defaultCount, minimum: 1, maximum: COUNT_MAX, description });
const countOrUnlimited = (defaultCount: number, description: string) =>
  Type.Integer({
    default: defaultCount,
    minimum: 0,
    maximum: COUNT_MAX,
    description: `${description} 0 means no limit.`,
  });

/** Rate limits; docs/limits.md explains the defaults. */
export const rateLimitSettings = {
  RATE_LIMIT_ENABLED: OneOf(["true", "false"], {
    default: "true",
    description: "`false` turns off all `RATE_LIMIT_…` settings, including the limits on logins.",
  }),
  RATE_LIMIT_ADDRESS_PER_10S: countSetting(
    10_000,
    "Maximum requests from one client address (IPv6: one /64) to `/api`, `/v1` and `/realtime` in 10 seconds, counted before " +
      "authentication.",
  ),
  RATE_LIMIT_ADDRESS_PER_MINUTE: countSetting(30_000, "Same as above, per minute."),
  RATE_LIMIT_AUTH_PER_10S: countSetting(200, "Maximum registrations and logins from one client address in 10 seconds."),
  RATE_LIMIT_AUTH_PER_MINUTE: countSetting(600, "Same as above, per minute."),
  RATE_LIMIT_RENEW_PER_10S: countSetting(
    1_000,
    "Maximum token refreshes, logouts and WebSocket tickets from one client address in 10 seconds.",
  ),
  RATE_LIMIT_RENEW_PER_MINUTE: countSetting(3_000, "Same as above, per minute."),
  RATE_LIMIT_HOOKS_PER_10S: countSetting(200, "Maximum requests to one incoming hook in 10 seconds."),
  RATE_LIMIT_HOOKS_PER_MINUTE: countSetting(600, "Same as above, per minute."),
  RATE_LIMIT_HOOKS_ADDRESS_PER_10S: countSetting(
    1_000,
    "Maximum requests from one client address to incoming hooks in 10 seconds, including hooks that don't exist.",
  ),
  RATE_LIMIT_HOOKS_ADDRESS_PER_MINUTE: countSetting(4_000, "Same as above, per minute."),
  RATE_LIMIT_READ_PER_10S: countSetting(2_000, "Maximum read requests in 10 seconds, per user and per API key."),
  RATE_LIMIT_READ_PER_MINUTE: countSetting(8_000, "Same as above, per minute."),
  RATE_LIMIT_WRITE_PER_10S: countSetting(2_000, "Maximum write requests in 10 seconds, per user and per API key."),
  RATE_LIMIT_WRITE_PER_MINUTE: countSetting(8_000, "Same as above, per minute."),
  RATE_LIMIT_AI_PER_10S: countSetting(
    500,
    "Maximum answers requested from models in 10 seconds through any API, per user and per API key.",
  ),
  RATE_LIMIT_AI_PER_MINUTE: countSetting(2_000, "Same as above, per minute."),
  RATE_LIMIT_ADDS_PER_10S: countSetting(1_000, "Maximum members that a user may add to conversations in 10 seconds."),
  RATE_LIMIT_ADDS_PER_MINUTE: countSetting(4_000, "Same as above, per minute."),
  RATE_LIMIT_ADDED_PER_10S: countSetting(
    500,
    "Maximum number of conversations that a user may be added to in 10 seconds. Beyond the limit, the user can still be added " +
      "by anyone in whose conversations the user has already posted.",
  ),
  RATE_LIMIT_ADDED_PER_MINUTE: countSetting(1_000, "Same as above, per minute."),
  RATE_LIMIT_SOCKET_FRAMES_PER_10S: countSetting(
    5_000,
    "Maximum frames on one WebSocket in 10 seconds. `typing` counts as a tenth of a frame.",
  ),
  RATE_LIMIT_SOCKET_FRAMES_PER_MINUTE: countSetting(20_000, "Same as above, per minute."),
  RATE_LIMIT_USER_FRAMES_PER_10S: countSetting(
    20_000,
    "Maximum frames on all of a user's WebSockets to one instance in 10 seconds.",
  ),
  RATE_LIMIT_USER_FRAMES_PER_MINUTE: countSetting(60_000, "Same as above, per minute."),
  RATE_LIMIT_LOGIN_FAILURES: countSetting(
    5,
    "Maximum consecutive wrong passwords for one account from one client address. After that, each wrong password doubles the " +
      "waiting time, from 1 second to 15 minutes.",
  ),
  RATE_LIMIT_LOGIN_FAILURES_PER_ACCOUNT: countSetting(
    100,
    "Maximum wrong passwords for one account within 15 minutes, from any address. After that, logins must wait, except from " +
      "addresses that used the account recently.",
  ),
  RATE_LIMIT_LOGIN_FAILURES_PER_ADDRESS: countSetting(
    300,
    "Maximum wrong passwords from one client address within 15 minutes, for any account. After that, all logins from that " +
      "address must wait.",
  ),
  RATE_LIMIT_GENERATIONS_PER_USER: countOrUnlimited(250, "Maximum answers in progress per user."),
  RATE_LIMIT_SOCKETS_PER_USER: countOrUnlimited(1_000, "Maximum open WebSockets per user and instance."),
  RATE_LIMIT_FEEDS_PER_USER: countOrUnlimited(200, "Maximum open live feeds (SSE) per user and instance."),
  RATE_LIMIT_READS_AT_ONCE_PER_USER: countOrUnlimited(
    4,
    "Maximum concurrent reads per user and instance. Further reads are queued.",
  ),
  RATE_LIMIT_EXPENSIVE_READS_PER_USER: countOrUnlimited(
    4,
    "Maximum concurrent expensive reads (exports, searches, prompt previews, analytics) per user and instance.",
  ),
};
