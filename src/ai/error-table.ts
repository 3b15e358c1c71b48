import type { ProviderErrorCode } from "./provider.ts";

export type ErrorKind = {
  code: ProviderErrorCode;
  /** Whether the same request may succeed later. */
  retryable: boolean;
};

const unavailable: ErrorKind = { code: "provider_unavailable", retryable: true };
const rateLimited: ErrorKind = { code: "provider_rate_limited", retryable: true };
/** The account has no credit left or its budget is used up, so retrying doesn't help. */
const exhausted: ErrorKind = { code: "provider_rate_limited", retryable: false };
const unauthorized: ErrorKind = { code: "provider_unauthorized", retryable: false };
const refused: ErrorKind = { code: "provider_refused", retryable: false };

/** Names that mean the same thing for every provider. They take precedence over a status, which may be a gateway's. */
const specificNamePatterns: readonly (readonly [RegExp, ErrorKind])[] = [
  [
    /insufficient_(?:\w+_)?(?:quota|balance|credits?|funds)|quota_exceeded|exceeded_\w*quota|billing|payment_|arrear/,
    exhausted,
  ],
  [/rate_?limit|too_many_requests|resource_exhausted|throttl|slow_down/, rateLimited],
  [/api_?key|authentication|unauthenticated|unauthori[sz]ed|permission|forbidden|access_denied/, unauthorized],
  [/account_(?:deactivated|disabled)|unsupported_country/, unauthorized],
  [
    /context_?(?:length|window|size)|prompt_too_long|model_not_found|(?:content|policy)_(?:policy|filter|violation)/,
    refused,
  ],
];

/** Names of broad error categories, used only if there is no status. */
const generalNamePatterns: readonly (readonly [RegExp, ErrorKind])[] = [
  [/overloaded|unavailable|server_error|internal|timeout|timed_out|deadline|capacity|api_error|gateway/, unavailable],
  [/^invalid|^bad_request|^missing|^unsupported|^unknown_(?:parameter|argument|field)|^unprocessable/, refused],
  [/not_found|not_supported|too_(?:large|long)|_(?:above|below)_m(?:ax|in)|validation|failed_precondition/, refused],
  [/out_of_range|unimplemented/, refused],
];

/** Patterns for messages, for providers without codes and gateways that drop them. */
const messagePatterns: readonly (readonly [RegExp, ErrorKind])[] = [
  [/insufficient[_ ](?:quota|balance|credits?|funds)|credit balance is too low/i, exhausted],
  [/context_length_exceeded|maximum context length|prompt is too long|exceeds? the (?:\w+'?s? )?context/i, refused],
];

/** Maximum length of the examined start of a name or message, in UTF-16 code units. */
const NAME_LENGTH_MAX = 100;
const MESSAGE_LENGTH_MAX = 2_000;

export type ErrorClues = {
  /** Names of the error, most specific first. */
  names: readonly string[];
  message: string;
  /** The HTTP status in the error itself. It takes precedence over the response's, because it is closer to the cause. */
  status: number | null;
  /** The HTTP status of the response, or null if it was a success. */
  httpStatus: number | null;
};

/** Classifies a provider's failure. */
export function findErrorKind({ names, message, status, httpStatus }: ErrorClues): ErrorKind {
  const normalizedNames = names.map(normalizeName);
  const mostSpecificStatus = status ?? httpStatus;
  return (
    findMatch(specificNamePatterns, normalizedNames) ??
    findMatch(messagePatterns, [message.slice(0, MESSAGE_LENGTH_MAX)]) ??
    (mostSpecificStatus === null ? null : findByStatus(mostSpecificStatus)) ??
    findMatch(generalNamePatterns, normalizedNames) ??
    unavailable
  );
}

/** Whether a string is a known error name. */
export function isErrorName(name: string): boolean {
  const names = [normalizeName(name)];
  return (findMatch(specificNamePatterns, names) ?? findMatch(generalNamePatterns, names)) !== null;
}

function findMatch(table: readonly (readonly [RegExp, ErrorKind])[], strings: readonly string[]): ErrorKind | null {
  for (const text of strings) for (const [pattern, kind] of table) if (pattern.test(text)) return kind;
  return null;
}

/** Normalizes `RateLimitReached`, `rate-limit` and `RATE_LIMIT` to one spelling. */
const normalizeName = (name: string): string =>
  name
    .slice(0, NAME_LENGTH_MAX)
    .replace(/([a-z])([A-Z])/g, "$1_$2")
    .replace(/\W+/g, "_")
    .toLowerCase();

function findByStatus(status: number): ErrorKind {
  if (status === 429) return rateLimited;
  if (status === 402) return exhausted;
  if (status === 401 || status === 403) return unauthorized;
  if (status === 408 || status === 409 || status === 425 || status === 499 || status >= 500) return unavailable;
  return refused;
}
