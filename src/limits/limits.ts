import type { Config } from "../config.ts";
import type { Log } from "../lib/log.ts";
import type { Metrics } from "../lib/metrics.ts";
import { connectRedis, type RedisLink } from "../redis/link.ts";
import { createAddressKey } from "./address-key.ts";
import { type AnswerLimit, createAnswerLimit } from "./answer-limit.ts";
import { createFrameLimit, type FrameLimit, noFrameLimit } from "./frame-limit.ts";
import { createRateLimitProblem } from "./limit-problem.ts";
import { createLimiter, type Limiter, type LimitResult } from "./limiter.ts";
import { createLoginGuard, type LoginGuard, noLoginGuard } from "./login-guard.ts";
import { ReadQueue } from "./read-queue.ts";
import { Slots } from "./slots.ts";

/** Maximum number of concurrent password checks per user, for changes that require the password. */
const PASSWORD_CHECKS_PER_USER = 4;

/** Limits per client IP address. */
export type AddressClass = "address" | "auth" | "renew" | "hooks_address";
/** Limits per user and per API key. */
export type CallerClass = "read" | "write" | "ai";
/** Limits on adding members, per user who adds others (`adds`) and per user who is added (`added`). */
type MemberClass = "adds" | "added";
/** Limits per incoming hook. */
type HookClass = "hooks";
export type RouteClass = Exclude<AddressClass, "address"> | CallerClass;

/** The fields of a caller that are needed for limits. `scopes` is null for a session. */
type Subject = { user: { id: string }; credentialId: string; scopes: object | null };

/** The result for an allowed request. Null if limits are off or the client's address is unknown. */
export type LimitOutcome = LimitResult | null;

export type Limits = {
  /** @throws Problem `rate_limited`. */
  countAddress(limit: AddressClass, ipAddress: string | null): LimitOutcome | Promise<LimitOutcome>;
  /** @throws Problem `rate_limited`. */
  countCaller(limit: CallerClass, subject: Subject): LimitOutcome | Promise<LimitOutcome>;
  /** Counts a post to an incoming hook. @throws Problem `rate_limited`. */
  countHook(hookId: string): LimitOutcome | Promise<LimitOutcome>;
  /** Stores a message that a model will answer. @throws Problem `rate_limited`, or the errors of `store`. */
  storeAnsweredMessage<T>(subject: Subject, store: () => Promise<T>): Promise<T>;
  /**
   * Checks the limit for a message that a model may answer. If a model answers it, call `countAnswer`. Concurrent messages
   * may slightly exceed the limit. Usually synchronous.
   * @throws Problem `rate_limited`.
   */
  checkAnswerLimit(subject: Subject): Promise<void> | undefined;
  countAnswer(subject: Subject): void;
  /**
   * Counts a new member. Call it before adding the member. Above the added user's limit, only callers whom that user knows can
   * add them.
   * @param isCallerKnown returns whether the added user knows the caller. Called only above the limit.
   * @throws Problem `rate_limited`.
   */
  countAddedMember(subject: Subject, addedId: string, isCallerKnown: () => Promise<boolean>): Promise<void>;
  /** Limits concurrent answers. */
  answers: Pick<AnswerLimit, "store" | "reserve">;
  frames: FrameLimit;
  sockets: Slots;
  feeds: Slots;
  reads: ReadQueue;
  expensiveReads: Slots;
  exports: Slots;
  logins: LoginGuard;
  /** Limits lookups of users by email address. Unknown email addresses are counted as failures. */
  lookups: Pick<LoginGuard, "startAttempt">;
  passwordChecks: Slots;
  /** Null if REDIS_URL isn't set. */
  redis: RedisLink | null;
  /** Whether all limits are counted in this process, so that `countAddress` is synchronous. */
  isLocal: boolean;
};

type LimitConfig = Pick<Config, "REDIS_URL" | Extract<keyof Config, `RATE_LIMIT_${string}`>>;

type Dependencies = {
  config: LimitConfig;
  /** Identifies this deployment in a Redis that several deployments share. */
  deployment: string;
  log: Log;
  metrics: Metrics;
  /** Counts a user's stored answers in progress. */
  countStoredAnswers(userId: string): Promise<number>;
};

type CountedClass = AddressClass | CallerClass | MemberClass | HookClass;

const limitNames: Record<CountedClass, string> = {
  address: "requests from this address",
  auth: "logins and registrations from this address",
  renew: "requests for tokens from this address",
  hooks_address: "posts to hooks from this address",
  hooks: "posts to this hook",
  read: "read requests",
  write: "write requests",
  ai: "requests to models",
  adds: "new members",
  added: "conversations that this user was added to",
};

const EXPORTS_PER_USER = 1;

/** Creates this instance's limits. */
export function createLimits({ config, deployment, log, metrics, countStoredAnswers }: Dependencies): Limits {
  const redis = config.REDIS_URL === undefined ? null : connectRedis(config.REDIS_URL, deployment, log);
  const isEnabled = config.RATE_LIMIT_ENABLED === "true";
  const createSlots = (limit: string, slotsMax: number, resources: string, policy?: string) =>
    new Slots({
      slotsMax: isEnabled ? slotsMax : 0,
      resources,
      onRejected: () => metrics.rateLimited.inc({ limit }),
      ...(policy !== undefined && { policy }),
    });
  const sockets = createSlots("sockets", config.RATE_LIMIT_SOCKETS_PER_USER, "open sockets on this instance");
  const feeds = createSlots("feeds", config.RATE_LIMIT_FEEDS_PER_USER, "open live feeds on this instance");
  const answers = createAnswerLimit({
    answersMax: isEnabled ? config.RATE_LIMIT_GENERATIONS_PER_USER : 0,
    countStoredAnswers,
    onRejected: () => metrics.rateLimited.inc({ limit: "generations" }),
  });
  const passwordChecks = createSlots(
    "password_checks",
    PASSWORD_CHECKS_PER_USER,
    "concurrent password checks",
    "password_checks",
  );
  const reads = new ReadQueue({
    concurrentMax: isEnabled ? config.RATE_LIMIT_READS_AT_ONCE_PER_USER : 0,
    onRejected: () => metrics.rateLimited.inc({ limit: "reads_waiting" }),
  });
  const expensiveReads = createSlots(
    "expensive_reads",
    config.RATE_LIMIT_EXPENSIVE_READS_PER_USER,
    "searches, previews, exports and analytics in progress",
  );
  const exports = createSlots("exports", EXPORTS_PER_USER, "export in progress");
  const commonLimits = { answers, sockets, feeds, reads, expensiveReads, exports, passwordChecks, redis };
  if (!isEnabled)
    return {
      ...commonLimits,
      countAddress: () => null,
      countCaller: () => null,
      countHook: () => null,
      storeAnsweredMessage: (_subject, store) => store(),
      checkAnswerLimit: () => undefined,
      countAnswer: () => {},
      countAddedMember: async () => {},
      frames: noFrameLimit,
      logins: noLoginGuard,
      lookups: noLoginGuard,
      isLocal: true,
    };

  const getRate = (name: RateName) => ({
    burst: config[`RATE_LIMIT_${name}_PER_10S`],
    sustained: config[`RATE_LIMIT_${name}_PER_MINUTE`],
  });
  const failures = {
    account_and_address: config.RATE_LIMIT_LOGIN_FAILURES,
    account: config.RATE_LIMIT_LOGIN_FAILURES_PER_ACCOUNT,
    address: config.RATE_LIMIT_LOGIN_FAILURES_PER_ADDRESS,
  };
  const createNamedLimiter = (name: RateName) =>
    createLimiter({ name: name.toLowerCase(), rate: getRate(name), redis });
  const limiters: Record<CountedClass, Limiter> = {
    address: createNamedLimiter("ADDRESS"),
    auth: createNamedLimiter("AUTH"),
    renew: createNamedLimiter("RENEW"),
    hooks_address: createNamedLimiter("HOOKS_ADDRESS"),
    hooks: createNamedLimiter("HOOKS"),
    read: createNamedLimiter("READ"),
    write: createNamedLimiter("WRITE"),
    ai: createNamedLimiter("AI"),
    adds: createNamedLimiter("ADDS"),
    added: createNamedLimiter("ADDED"),
  };

  function throwIfExceeded(limit: CountedClass, result: LimitResult): LimitResult {
    if (result.isAllowed) return result;
    metrics.rateLimited.inc({ limit });
    throw createRateLimitProblem(result, limitNames[limit]);
  }

  function countUse(limit: CountedClass, key: string): LimitResult | Promise<LimitResult> {
    const result = limiters[limit].consume(key);
    return result instanceof Promise
      ? result.then((awaited) => throwIfExceeded(limit, awaited))
      : throwIfExceeded(limit, result);
  }

  /** Counts a use for the user and the API key. Returns the result with less remaining quota. */
  async function countBoth(limit: CallerClass, userKey: string, credentialKey: string): Promise<LimitResult> {
    const userResult = await countUse(limit, userKey);
    const credentialResult = await countUse(limit, credentialKey);
    return credentialResult.remaining < userResult.remaining ? credentialResult : userResult;
  }

  function countCaller(
    limit: CallerClass,
    { user, credentialId, scopes }: Subject,
  ): LimitResult | Promise<LimitResult> {
    const userKey = `u:${user.id}`;
    return scopes === null ? countUse(limit, userKey) : countBoth(limit, userKey, `k:${credentialId}`);
  }

  async function finishCheck({ user }: Subject, result: Promise<LimitResult>): Promise<void> {
    throwIfExceeded("ai", await result);
    await answers.checkLimit(user.id);
  }

  return {
    ...commonLimits,
    countAddress: (limit, ipAddress) => (ipAddress === null ? null : countUse(limit, createAddressKey(ipAddress))),
    countCaller,
    countHook: (hookId) => countUse("hooks", `h:${hookId}`),
    async storeAnsweredMessage(subject, store) {
      const result = countCaller("ai", subject);
      if (result instanceof Promise) await result;
      return answers.store(subject.user.id, store);
    },
    checkAnswerLimit(subject) {
      const result = limiters.ai.peek(`u:${subject.user.id}`);
      if (result instanceof Promise) return finishCheck(subject, result);
      throwIfExceeded("ai", result);
      return answers.checkLimit(subject.user.id);
    },
    countAnswer(subject) {
      answers.countAnswer(subject.user.id);
      // The message is already stored, so the result is ignored.
      const { user, credentialId, scopes } = subject;
      for (const key of [`u:${user.id}`, ...(scopes === null ? [] : [`k:${credentialId}`])])
        Promise.resolve(limiters.ai.consume(key)).catch((error) =>
          log.error({ err: error }, "an answer could not be counted"),
        );
    },
    async countAddedMember({ user }, addedId, isCallerKnown) {
      await countUse("adds", `u:${user.id}`);
      const addedResult = await limiters.added.consume(`u:${addedId}`);
      if (!addedResult.isAllowed && !(await isCallerKnown())) throwIfExceeded("added", addedResult);
    },
    frames: createFrameLimit({ socket: getRate("SOCKET_FRAMES"), user: getRate("USER_FRAMES") }),
    logins: createLoginGuard({ failures, redis, onRejected: () => metrics.rateLimited.inc({ limit: "login" }) }),
    lookups: createLoginGuard({
      failures,
      redis,
      name: "lookup",
      detail: "Too many email addresses without an account; wait before you try another email address.",
      resetsOnSuccess: false,
      onRejected: () => metrics.rateLimited.inc({ limit: "member_by_email" }),
    }),
    isLocal: redis === null,
  };
}

type RateName =
  | "ADDRESS"
  | "AUTH"
  | "RENEW"
  | "HOOKS_ADDRESS"
  | "HOOKS"
  | "READ"
  | "WRITE"
  | "AI"
  | "ADDS"
  | "ADDED"
  | "SOCKET_FRAMES"
  | "USER_FRAMES";
