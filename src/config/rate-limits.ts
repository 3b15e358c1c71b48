import { Type } from "@sinclair/typebox";
import { OneOf } from "../lib/schema.ts";

const COUNT_MAX = 1_000_000_000;

const count = (defaultCount: number, description: string) =>
  Type.Integer({ default: defaultCount, minimum: 1, maximum: COUNT_MAX, description });
const countOrOff = (defaultCount: number, description: string) =>
  Type.Integer({ default: defaultCount, minimum: 0, maximum: COUNT_MAX, description: `${description} 0: no limit.` });

/** Rate limits; docs/limits.md explains the numbers. */
export const rateLimitSettings = {
  RATE_LIMIT_ENABLED: OneOf(["true", "false"], {
    default: "true",
    description: "`false` turns off all limits of this table, including those of logins.",
  }),
  RATE_LIMIT_ADDRESS_PER_10S: count(
    10_000,
    "Requests of one client address (IPv6: one /64) to `/api`, `/v1` and `/realtime` in 10 seconds, counted before authentication.",
  ),
  RATE_LIMIT_ADDRESS_PER_MINUTE: count(30_000, "The same, per minute."),
  RATE_LIMIT_AUTH_PER_10S: count(200, "Registrations and logins of one client address in 10 seconds."),
  RATE_LIMIT_AUTH_PER_MINUTE: count(600, "The same, per minute."),
  RATE_LIMIT_RENEW_PER_10S: count(1_000, "Refreshes, logouts and tickets of one client address in 10 seconds."),
  RATE_LIMIT_RENEW_PER_MINUTE: count(3_000, "The same, per minute."),
  RATE_LIMIT_HOOKS_PER_10S: count(200, "Posts to one incoming hook in 10 seconds."),
  RATE_LIMIT_HOOKS_PER_MINUTE: count(600, "The same, per minute."),
  RATE_LIMIT_HOOKS_ADDRESS_PER_10S: count(
    1_000,
    "Posts of one client address to incoming hooks in 10 seconds, including nonexistent hooks.",
  ),
  RATE_LIMIT_HOOKS_ADDRESS_PER_MINUTE: count(4_000, "The same, per minute."),
  RATE_LIMIT_READ_PER_10S: count(2_000, "Read requests of one user, and of one API key, in 10 seconds."),
  RATE_LIMIT_READ_PER_MINUTE: count(8_000, "The same, per minute."),
  RATE_LIMIT_WRITE_PER_10S: count(2_000, "Write requests of one user, and of one API key, in 10 seconds."),
  RATE_LIMIT_WRITE_PER_MINUTE: count(8_000, "The same, per minute."),
  RATE_LIMIT_AI_PER_10S: count(
    500,
    "Model replies that one user, and one API key, may request in 10 seconds, through any API.",
  ),
  RATE_LIMIT_AI_PER_MINUTE: count(2_000, "The same, per minute."),
  RATE_LIMIT_ADDS_PER_10S: count(1_000, "Members that one user may add to conversations in 10 seconds."),
  RATE_LIMIT_ADDS_PER_MINUTE: count(4_000, "The same, per minute."),
  RATE_LIMIT_ADDED_PER_10S: count(
    500,
    "How often one user may be added to conversations in 10 seconds. At the limit, only users in whose conversations they have written can add them.",
  ),
  RATE_LIMIT_ADDED_PER_MINUTE: count(1_000, "The same, per minute."),
  RATE_LIMIT_SOCKET_FRAMES_PER_10S: count(
    5_000,
    "Frames on one WebSocket in 10 seconds; `typing` counts as a tenth of a frame.",
  ),
  RATE_LIMIT_SOCKET_FRAMES_PER_MINUTE: count(20_000, "The same, per minute."),
  RATE_LIMIT_USER_FRAMES_PER_10S: count(
    20_000,
    "Frames on all WebSockets of one user, on this instance, in 10 seconds.",
  ),
  RATE_LIMIT_USER_FRAMES_PER_MINUTE: count(60_000, "The same, per minute."),
  RATE_LIMIT_LOGIN_FAILURES: count(
    5,
    "Consecutive wrong passwords for one account from one client address. After that, each one doubles the waiting time, from 1 second to 15 minutes.",
  ),
  RATE_LIMIT_LOGIN_FAILURES_PER_ACCOUNT: count(
    100,
    "Wrong passwords for one account within 15 minutes, from any address. After that, logins must wait, except from addresses that used the account recently.",
  ),
  RATE_LIMIT_LOGIN_FAILURES_PER_ADDRESS: count(
    300,
    "Wrong passwords from one client address within 15 minutes, for any account. After that, all logins from there must wait.",
  ),
  RATE_LIMIT_GENERATIONS_PER_USER: countOrOff(250, "Model replies that one user may have in progress."),
  RATE_LIMIT_SOCKETS_PER_USER: countOrOff(1_000, "Open WebSockets of one user on this instance."),
  RATE_LIMIT_FEEDS_PER_USER: countOrOff(200, "Open live feeds (SSE) of one user on this instance."),
  RATE_LIMIT_READS_AT_ONCE_PER_USER: countOrOff(
    4,
    "Concurrent reads of one user on this instance; further ones are queued.",
  ),
  RATE_LIMIT_EXPENSIVE_READS_PER_USER: countOrOff(
    4,
    "Concurrent expensive reads (exports, searches, prompt previews, analytics) of one user on this instance.",
  ),
};
