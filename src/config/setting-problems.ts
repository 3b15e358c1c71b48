import { parsePrices } from "../lib/parse-prices.ts";
import { findPasswordWeakness } from "../lib/weak-passwords.ts";
import { findUnsafeSettings } from "./environments.ts";
import { findMcpProblems } from "./mcp.ts";
import { findCertificatesProblem } from "./network.ts";
import { findProviderProblems } from "./provider-problems.ts";
import type { Settings } from "./settings.ts";
import { findTlsProblems } from "./tls.ts";

/** Returns the text of a file, or throws. */
export type ReadFile = (path: string) => string;

/** Returns whether a model's price is known. @param configuredPrices the value of AI_PRICES. */
export type HasPrice = (model: string, configuredPrices: string | undefined) => boolean;

const JWT_SECRET_BYTES_MIN = 32;
/** Measured in characters. The schema can check only UTF-16 code units. */
const ADMIN_PASSWORD_CHARS_MIN = 8;
/** Maximum length of `ADMIN_PASSWORD`, in UTF-16 code units. */
const ADMIN_PASSWORD_CHARS_MAX = 128;

/** Finds problems that the schema can't express, such as settings that contradict each other. Returns a message for each problem. */
export function findSettingProblems(config: Settings, hasPrice: HasPrice): string[] {
  const problems: string[] = [];
  if (config.APP_ENV === "production" && !config.JWT_SECRET)
    problems.push("JWT_SECRET: required in production; set it to 32 random bytes (openssl rand -base64 32).");
  if (config.JWT_SECRET && Buffer.byteLength(config.JWT_SECRET) < JWT_SECRET_BYTES_MIN)
    problems.push(
      `JWT_SECRET: the value is shorter than ${JWT_SECRET_BYTES_MIN} bytes; generate one with \`openssl rand -base64 32\`.`,
    );
  if (Boolean(config.ADMIN_EMAIL) !== Boolean(config.ADMIN_PASSWORD))
    problems.push("ADMIN_EMAIL and ADMIN_PASSWORD: set both or neither.");
  if (config.ADMIN_PASSWORD) problems.push(...findPasswordProblems(config.ADMIN_PASSWORD, config.ADMIN_EMAIL ?? null));
  if (Boolean(config.TLS_CERT_FILE) !== Boolean(config.TLS_KEY_FILE))
    problems.push("TLS_CERT_FILE and TLS_KEY_FILE: set both or neither.");
  problems.push(...findMcpProblems(config), ...findProviderProblems(config));
  problems.push(...findIssuerProblems(config));
  problems.push(...findBudgetProblems(config, hasPrice), ...findUnsafeSettings(config));
  return problems;
}

function findPasswordProblems(password: string, email: string | null): string[] {
  if (password.length > ADMIN_PASSWORD_CHARS_MAX)
    return [`ADMIN_PASSWORD: the value is longer than ${ADMIN_PASSWORD_CHARS_MAX} characters.`];
  if (password.length >= ADMIN_PASSWORD_CHARS_MIN && [...password].length < ADMIN_PASSWORD_CHARS_MIN)
    return [`ADMIN_PASSWORD: the value is shorter than ${ADMIN_PASSWORD_CHARS_MIN} characters; set a longer one.`];
  const weakness = findPasswordWeakness(password, email);
  if (weakness === null) return [];
  const reason = weakness === "common" ? "is one of the most common passwords" : "is the same as ADMIN_EMAIL";
  return [`ADMIN_PASSWORD: the value ${reason}; set a different one.`];
}

/** Finds problems with the OIDC settings. */
function findIssuerProblems({ APP_ENV, OIDC_ISSUER, OIDC_AUDIENCE, OIDC_JWKS_URL }: Settings): string[] {
  const problems: string[] = [];
  if (OIDC_ISSUER === undefined) {
    if (OIDC_AUDIENCE.length > 0) problems.push("OIDC_AUDIENCE: has no effect without OIDC_ISSUER; set both.");
    if (OIDC_JWKS_URL !== undefined) problems.push("OIDC_JWKS_URL: has no effect without OIDC_ISSUER; set both.");
    return problems;
  }
  if (OIDC_AUDIENCE.length === 0)
    problems.push(
      "OIDC_AUDIENCE: required with OIDC_ISSUER; set it to the client id or API that the tokens have in `aud`.",
    );
  if (/[?#]/.test(OIDC_ISSUER)) problems.push("OIDC_ISSUER: an issuer must not have a query or fragment; remove it.");
  const isLoopback = /^http:\/\/(localhost|127\.0\.0\.1|\[::1\])([:/]|$)/.test(OIDC_ISSUER);
  if (APP_ENV === "production" && /^http:/.test(OIDC_ISSUER) && !isLoopback && OIDC_JWKS_URL === undefined)
    problems.push(
      "OIDC_ISSUER: keys fetched over http can be tampered with; use https in production, or set OIDC_JWKS_URL.",
    );
  return problems;
}

const tokenLimits = [
  "BUDGET_USER_TOKENS_PER_DAY",
  "BUDGET_USER_TOKENS_PER_MONTH",
  "BUDGET_KEY_TOKENS_PER_DAY",
  "BUDGET_KEY_TOKENS_PER_MONTH",
] as const;
const usdLimits = [
  "BUDGET_USER_USD_PER_DAY",
  "BUDGET_USER_USD_PER_MONTH",
  "BUDGET_KEY_USD_PER_DAY",
  "BUDGET_KEY_USD_PER_MONTH",
] as const;

/** Finds budgets that are too small for any answer, and models without a price if there is a budget in USD. */
function findBudgetProblems(config: Settings, hasPrice: HasPrice): string[] {
  const problems: string[] = [];
  for (const name of tokenLimits) {
    const tokens = config[name];
    // Values that aren't positive integers have already been reported.
    if (Number.isSafeInteger(tokens) && Number(tokens) > 0 && Number(tokens) <= config.BUDGET_ANSWER_TOKENS)
      problems.push(
        `${name}: too small for any answer, because BUDGET_ANSWER_TOKENS is ${config.BUDGET_ANSWER_TOKENS}; raise it, or lower BUDGET_ANSWER_TOKENS.`,
      );
  }
  const hasUsdLimit = usdLimits.some((name) => config[name] !== undefined);
  if (!hasUsdLimit || !parsePrices(config.AI_PRICES ?? "")) return problems;
  for (const model of config.AI_MODELS)
    if (!hasPrice(model, config.AI_PRICES))
      problems.push(`AI_PRICES: the price of ${model} is not known, but a budget in USD is set; add the price.`);
  return problems;
}

/** Finds problems with the configured files and folders. */
export function findFileProblems(config: Settings, readFile: ReadFile, isFolder: (path: string) => boolean): string[] {
  const problems: string[] = [];
  for (const name of ["TLS_CERT_FILE", "TLS_KEY_FILE"] as const) {
    const path = config[name];
    if (path !== undefined && !canRead(path, readFile))
      problems.push(`${name}: the file ${path} can't be read; use an existing file that Parley's user can read.`);
  }
  if (config.TLS_CERT_FILE && config.TLS_KEY_FILE && problems.length === 0)
    problems.push(...findTlsProblems({ cert: readFile(config.TLS_CERT_FILE), key: readFile(config.TLS_KEY_FILE) }));
  if (config.NODE_EXTRA_CA_CERTS !== undefined) {
    const problem = findCertificatesProblem(config.NODE_EXTRA_CA_CERTS, readFile);
    if (problem !== null) problems.push(`NODE_EXTRA_CA_CERTS: ${problem}`);
  }
  if (config.DOCUMENTS_DIR !== undefined && !isFolder(config.DOCUMENTS_DIR))
    problems.push(
      `DOCUMENTS_DIR: ${config.DOCUMENTS_DIR} is not a readable folder; correct it, or unset it to serve Parley's own docs.`,
    );
  return problems;
}

export function canRead(path: string, readFile: ReadFile): boolean {
  try {
    readFile(path);
    return true;
  } catch {
    return false;
  }
}
