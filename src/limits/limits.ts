import type { Config } from "../config.ts";
import type { Log } from "../lib/log.ts";
import type { Metrics } from "../lib/metrics.ts";
import { connectRedis, type RedisLink } from "../redis/link.ts";
import { createAddressKey } from "./address-key.ts";
import { type AnswerLimit, createAnswerLimit } from "./answer-limit.ts";
import { createFrameLimit, type FrameLimit, noFrameLimit } from "./frame-limit.ts";
import { createLimiter, type Limiter, type Verdict } from "./limiter.ts";
import { createLoginGuard, type LoginGuard, noLoginGuard } from "./login-guard.ts";
import { ReadQueue } from "./read-queue.ts";
import { createRefusal } from "./refusal.ts";
import { Slots } from "./slots.ts";

/** Passwords of one user being checked concurrently, each to change or delete something. */
const PASSWORD_CHECKS_PER_USER = 4;

/** Uses counted per client address. */
export type AddressClass = "address" | "auth" | "renew" | "hooks_address";
/** Uses counted per user, and per API key. */
export type CallerClass = "read" | "write" | "ai";
/** Counted when members are added: for the user who adds, and for the added user. */
type AddClass = "adds" | "added";
/** Counted per incoming hook. */
type HookClass = "hooks";
export type RouteClass = Exclude<AddressClass, "address"> | CallerClass;

/** The caller, as far as limits need to know: a user, by a session or by an API key (which has scopes). */
type Subject = { user: { id: string }; credentialId: string; scopes: object | null };

/** The verdict on an allowed use; null if limits are off, or nothing identifies the caller. */
export type LimitOutcome = Verdict | null;

export type Limits = {
  /** @throws Problem `rate_limited`. */
  countAddress(limit: AddressClass, ipAddress: string | null): LimitOutcome | Promise<LimitOutcome>;
  /** @throws Problem `rate_limited`. */
  countCaller(limit: CallerClass, subject: Subject): LimitOutcome | Promise<LimitOutcome>;
  /** For posts to an incoming hook. @throws Problem `rate_limited`. */
  countHook(hookId: string): LimitOutcome | Promise<LimitOutcome>;
  /** Stores a message that a model will answer. @throws Problem `rate_limited`, and what `store` throws. */
  storeAnswered<T>(subject: Subject, store: () => Promise<T>): Promise<T>;
  /**
   * Call before storing a message that a model might answer; call `countAnswer` once it does. Concurrent messages may exceed
   * the limit slightly. Usually synchronous.
   * @throws Problem `rate_limited`.
   */
  checkAnswered(subject: Subject): Promise<void> | undefined;
  countAnswer(subject: Subject): void;
  /**
   * Call before a user is added to a conversation. Above the limit, only users who are known may be added.
   * @param isKnown whether the added user knows the caller; called only above the limit.
   * @throws Problem `rate_limited`.
   */
  countAdd(subject: Subject, addedId: string, isKnown: () => Promise<boolean>): Promise<void>;
  /** Limits answers in progress; their rate is counted separately. */
  answers: Pick<AnswerLimit, "store" | "reserve">;
  frames: FrameLimit;
  sockets: Slots;
  feeds: Slots;
  reads: ReadQueue;
  expensiveReads: Slots;
  /** Exports of one user: one at a time. */
  exports: Slots;
  logins: LoginGuard;
  /** Limits looking up users by e-mail address: an unknown address counts like a wrong password. */
  lookups: Pick<LoginGuard, "begin">;
  passwordChecks: Slots;
  /** Null without REDIS_URL. */
  redis: RedisLink | null;
  /** Whether every use is counted in this process, so checks are synchronous. */
  isLocal: boolean;
};

type LimitConfig = Pick<Config, "REDIS_URL" | Extract<keyof Config, `RATE_LIMIT_${string}`>>;

type Dependencies = {
  config: LimitConfig;
  /** Identifies this Parley in a shared Redis. */
  deployment: string;
  log: Log;
  metrics: Metrics;
  /** Stored answers of a user that have not ended. */
  countStored(userId: string): Promise<number>;
};

type CountedClass = AddressClass | CallerClass | AddClass | HookClass;

const named: Record<CountedClass, string> = {
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

/** All limits of this instance: the only place that turns settings into rates. */
export function createLimits({ config, deployment, log, metrics, countStored }: Dependencies): Limits {
  const redis = config.REDIS_URL === undefined ? null : connectRedis(config.REDIS_URL, deployment, log);
  const isEnabled = config.RATE_LIMIT_ENABLED === "true";
  const slots = (limit: string, slotsMax: number, what: string, policy?: string) =>
    new Slots({
      slotsMax: isEnabled ? slotsMax : 0,
      what,
      onRefused: () => metrics.rateLimited.inc({ limit }),
      ...(policy !== undefined && { policy }),
    });
  const sockets = slots("sockets", config.RATE_LIMIT_SOCKETS_PER_USER, "sockets open here");
  const feeds = slots("feeds", config.RATE_LIMIT_FEEDS_PER_USER, "live feeds open here");
  const answers = createAnswerLimit({
    answersMax: isEnabled ? config.RATE_LIMIT_GENERATIONS_PER_USER : 0,
    countStored,
    onRefused: () => metrics.rateLimited.inc({ limit: "generations" }),
  });
  const passwordChecks = slots(
    "password_checks",
    PASSWORD_CHECKS_PER_USER,
    "passwords checked at once",
    "password_checks",
  );
  const reads = new ReadQueue({
    atOnce: isEnabled ? config.RATE_LIMIT_READS_AT_ONCE_PER_USER : 0,
    onRefused: () => metrics.rateLimited.inc({ limit: "reads_waiting" }),
  });
  const expensiveReads = slots(
    "expensive_reads",
    config.RATE_LIMIT_EXPENSIVE_READS_PER_USER,
    "searches, previews, exports and analytics in progress",
  );
  const exports = slots("exports", EXPORTS_PER_USER, "export in progress");
  const common = { answers, sockets, feeds, reads, expensiveReads, exports, passwordChecks, redis };
  if (!isEnabled)
    return {
      ...common,
      countAddress: () => null,
      countCaller: () => null,
      countHook: () => null,
      storeAnswered: (_subject, store) => store(),
      checkAnswered: () => undefined,
      countAnswer: () => {},
      countAdd: async () => {},
      frames: noFrameLimit,
      logins: noLoginGuard,
      lookups: noLoginGuard,
      isLocal: true,
    };

  const rate = (name: RateName) => ({
    burst: config[`RATE_LIMIT_${name}_PER_10S`],
    sustained: config[`RATE_LIMIT_${name}_PER_MINUTE`],
  });
  const failures = {
    account_and_address: config.RATE_LIMIT_LOGIN_FAILURES,
    account: config.RATE_LIMIT_LOGIN_FAILURES_PER_ACCOUNT,
    address: config.RATE_LIMIT_LOGIN_FAILURES_PER_ADDRESS,
  };
  const limiter = (name: RateName) => createLimiter({ name: name.toLowerCase(), rate: rate(name), redis });
  const limiters: Record<CountedClass, Limiter> = {
    address: limiter("ADDRESS"),
    auth: limiter("AUTH"),
    renew: limiter("RENEW"),
    hooks_address: limiter("HOOKS_ADDRESS"),
    hooks: limiter("HOOKS"),
    read: limiter("READ"),
    write: limiter("WRITE"),
    ai: limiter("AI"),
    adds: limiter("ADDS"),
    added: limiter("ADDED"),
  };

  function check(limit: CountedClass, verdict: Verdict): Verdict {
    if (verdict.isAllowed) return verdict;
    metrics.rateLimited.inc({ limit });
    throw createRefusal(verdict, named[limit]);
  }

  function count(limit: CountedClass, key: string): Verdict | Promise<Verdict> {
    const verdict = limiters[limit].consume(key);
    return verdict instanceof Promise ? verdict.then((later) => check(limit, later)) : check(limit, verdict);
  }

  /** A key counts for itself and for its user; the headers report the tighter one. */
  async function countBoth(limit: CallerClass, userKey: string, keyKey: string): Promise<Verdict> {
    const ofUser = await count(limit, userKey);
    const ofKey = await count(limit, keyKey);
    return ofKey.remaining < ofUser.remaining ? ofKey : ofUser;
  }

  function countCaller(limit: CallerClass, { user, credentialId, scopes }: Subject): Verdict | Promise<Verdict> {
    const userKey = `u:${user.id}`;
    return scopes === null ? count(limit, userKey) : countBoth(limit, userKey, `k:${credentialId}`);
  }

  async function checkLater({ user }: Subject, peeked: Promise<Verdict>): Promise<void> {
    check("ai", await peeked);
    await answers.check(user.id);
  }

  return {
    ...common,
    countAddress: (limit, ipAddress) => (ipAddress === null ? null : count(limit, createAddressKey(ipAddress))),
    countCaller,
    countHook: (hookId) => count("hooks", `h:${hookId}`),
    async storeAnswered(subject, store) {
      const counted = countCaller("ai", subject);
      if (counted instanceof Promise) await counted;
      return answers.store(subject.user.id, store);
    },
    checkAnswered(subject) {
      const peeked = limiters.ai.peek(`u:${subject.user.id}`);
      if (peeked instanceof Promise) return checkLater(subject, peeked);
      check("ai", peeked);
      return answers.check(subject.user.id);
    },
    countAnswer(subject) {
      answers.count(subject.user.id);
      // The message is already stored; the verdict applies to the next one.
      const { user, credentialId, scopes } = subject;
      for (const key of [`u:${user.id}`, ...(scopes === null ? [] : [`k:${credentialId}`])])
        Promise.resolve(limiters.ai.consume(key)).catch((error) =>
          log.error({ err: error }, "an answer could not be counted"),
        );
    },
    async countAdd({ user }, addedId, isKnown) {
      await count("adds", `u:${user.id}`);
      const ofAdded = await limiters.added.consume(`u:${addedId}`);
      if (!ofAdded.isAllowed && !(await isKnown())) check("added", ofAdded);
    },
    frames: createFrameLimit({ socket: rate("SOCKET_FRAMES"), user: rate("USER_FRAMES") }),
    logins: createLoginGuard({ failures, redis, onRefused: () => metrics.rateLimited.inc({ limit: "login" }) }),
    lookups: createLoginGuard({
      failures,
      redis,
      name: "lookup",
      detail: "Too many e-mail addresses without an account; wait before you try another one.",
      isForgiving: false,
      onRefused: () => metrics.rateLimited.inc({ limit: "member_by_email" }),
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
