import type { ProviderErrorCode } from "./provider.ts";

/** How Parley classifies a failure. */
export type ErrorKind = {
  code: ProviderErrorCode;
  /** Whether the same request may succeed later. */
  retryable: boolean;
};

const unavailable: ErrorKind = { code: "provider_unavailable", retryable: true };
const limited: ErrorKind = { code: "provider_rate_limited", retryable: true };
/** An empty account or an exhausted budget: retrying doesn't help. */
const spent: ErrorKind = { code: "provider_rate_limited", retryable: false };
const unauthorized: ErrorKind = { code: "provider_unauthorized", retryable: false };
const refused: ErrorKind = { code: "provider_refused", retryable: false };

/** Names that mean the same everywhere. They outrank a status, which gateways make up. */
const specificWords: readonly (readonly [RegExp, ErrorKind])[] = [
  [
    /insufficient_(?:\w+_)?(?:quota|balance|credits?|funds)|quota_exceeded|exceeded_\w*quota|billing|payment_|arrear/,
    spent,
  ],
  [/rate_?limit|too_many_requests|resource_exhausted|throttl|slow_down/, limited],
  [/api_?key|authentication|unauthenticated|unauthori[sz]ed|permission|forbidden|access_denied/, unauthorized],
  [/account_(?:deactivated|disabled)|unsupported_country/, unauthorized],
  [
    /context_?(?:length|window|size)|prompt_too_long|model_not_found|(?:content|policy)_(?:policy|filter|violation)/,
    refused,
  ],
];

/** Names of whole error families; used only without a status. */
const generalWords: readonly (readonly [RegExp, ErrorKind])[] = [
  [/overloaded|unavailable|server_error|internal|timeout|timed_out|deadline|capacity|api_error|gateway/, unavailable],
  [/^invalid|^bad_request|^missing|^unsupported|^unknown_(?:parameter|argument|field)|^unprocessable/, refused],
  [/not_found|not_supported|too_(?:large|long)|_(?:above|below)_m(?:ax|in)|validation|failed_precondition/, refused],
  [/out_of_range|unimplemented/, refused],
];

/** Matches on the text alone, for providers without codes and gateways that drop them. */
const messages: readonly (readonly [RegExp, ErrorKind])[] = [
  [/insufficient[_ ](?:quota|balance|credits?|funds)|credit balance is too low/i, spent],
  [/context_length_exceeded|maximum context length|prompt is too long|exceeds? the (?:\w+'?s? )?context/i, refused],
];

/** UTF-16 units of a name, and of a text, that are examined. */
const WORD_LENGTH_MAX = 100;
const MESSAGE_LENGTH_MAX = 2_000;

export type ErrorClues = {
  /** Names of the error, most specific first. */
  words: readonly string[];
  message: string;
  /** The status named in the error; it is closer to the cause than the response's status. */
  status: number | null;
  /** The HTTP status of the response, unless it was a success. */
  httpStatus: number | null;
};

/** Classifies all failures of every provider, over HTTP and inside streams. */
export function findErrorKind({ words, message, status, httpStatus }: ErrorClues): ErrorKind {
  const names = words.map(normalize);
  const number = status ?? httpStatus;
  return (
    find(specificWords, names) ??
    find(messages, [message.slice(0, MESSAGE_LENGTH_MAX)]) ??
    (number === null ? null : findByStatus(number)) ??
    find(generalWords, names) ??
    unavailable
  );
}

/** Whether a word is an error name in the table. */
export function isErrorName(word: string): boolean {
  const names = [normalize(word)];
  return (find(specificWords, names) ?? find(generalWords, names)) !== null;
}

function find(table: readonly (readonly [RegExp, ErrorKind])[], texts: readonly string[]): ErrorKind | null {
  for (const text of texts) for (const [pattern, kind] of table) if (pattern.test(text)) return kind;
  return null;
}

/** Normalizes `RateLimitReached`, `rate-limit` and `RATE_LIMIT` to one spelling. */
const normalize = (word: string): string =>
  word
    .slice(0, WORD_LENGTH_MAX)
    .replace(/([a-z])([A-Z])/g, "$1_$2")
    .replace(/\W+/g, "_")
    .toLowerCase();

function findByStatus(status: number): ErrorKind {
  if (status === 429) return limited;
  if (status === 402) return spent;
  if (status === 401 || status === 403) return unauthorized;
  if (status === 408 || status === 409 || status === 425 || status === 499 || status >= 500) return unavailable;
  return refused;
}
