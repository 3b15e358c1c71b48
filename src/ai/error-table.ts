import type { ProviderErrorCode } from "./provider.ts";

/** What a failure means to us. */
export type ErrorKind = {
  code: ProviderErrorCode;
  /** Whether the same request may succeed later. */
  retryable: boolean;
};

const unavailable: ErrorKind = { code: "provider_unavailable", retryable: true };
const limited: ErrorKind = { code: "provider_rate_limited", retryable: true };
/** An empty account or a spent budget: no retry fills it. */
const spent: ErrorKind = { code: "provider_rate_limited", retryable: false };
const unauthorized: ErrorKind = { code: "provider_unauthorized", retryable: false };
const refused: ErrorKind = { code: "provider_refused", retryable: false };

/** Names that mean one thing wherever they stand; they count more than a status, which gateways make up. */
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

/** Names of whole families of errors; they count where there is no status. */
const generalWords: readonly (readonly [RegExp, ErrorKind])[] = [
  [/overloaded|unavailable|server_error|internal|timeout|timed_out|deadline|capacity|api_error|gateway/, unavailable],
  [/^invalid|^bad_request|^missing|^unsupported|^unknown_(?:parameter|argument|field)|^unprocessable/, refused],
  [/not_found|not_supported|too_(?:large|long)|_(?:above|below)_m(?:ax|in)|validation|failed_precondition/, refused],
  [/out_of_range|unimplemented/, refused],
];

/** What only the text says: providers that give no code, and gateways that lose it. */
const messages: readonly (readonly [RegExp, ErrorKind])[] = [
  [/insufficient[_ ](?:quota|balance|credits?|funds)|credit balance is too low/i, spent],
  [/context_length_exceeded|maximum context length|prompt is too long|exceeds? the (?:\w+'?s? )?context/i, refused],
];

/** UTF-16 units that are looked at of a name, and of a text. */
const WORD_LENGTH_MAX = 100;
const MESSAGE_LENGTH_MAX = 2_000;

export type ErrorClues = {
  /** Names of the error, the most specific first. */
  words: readonly string[];
  message: string;
  /** The status that the error itself names; it comes from nearer to the fault than that of the response. */
  status: number | null;
  /** The HTTP status of the response, unless that was a success. */
  httpStatus: number | null;
};

/** One table for all failures, over HTTP and inside streams, of every provider. */
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

/** Whether a word is the name of an error that the table knows. */
export function isErrorName(word: string): boolean {
  const names = [normalize(word)];
  return (find(specificWords, names) ?? find(generalWords, names)) !== null;
}

function find(table: readonly (readonly [RegExp, ErrorKind])[], texts: readonly string[]): ErrorKind | null {
  for (const text of texts) for (const [pattern, kind] of table) if (pattern.test(text)) return kind;
  return null;
}

/** `RateLimitReached`, `rate-limit` and `RATE_LIMIT` in one spelling. */
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
