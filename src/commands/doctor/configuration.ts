import { findServerSecret } from "../jwt-secret.ts";
import type { DoctorCheck } from "./check.ts";
import { type Finding, ok, problem, warning } from "./finding.ts";

const SECRET_CHARS_MIN = 32;
const DISTINCT_CHARS_MIN = 10;

/** Reports the warnings of `parley config check`, and a weak or damaged JWT secret. */
export const createConfigurationCheck = (warnings: readonly string[]): DoctorCheck => ({
  name: "configuration",
  run({ config }) {
    const findings = [...warnings.map(warning), ...checkSecret(() => findServerSecret(config)?.value ?? null)];
    return findings.length > 0 ? findings : [ok(`The configuration is valid (APP_ENV=${config.APP_ENV}).`)];
  },
});

/** @param findSecret returns the JWT secret; null if Parley has not generated one yet. */
function checkSecret(findSecret: () => string | null): Finding[] {
  let secret: string | null;
  try {
    secret = findSecret();
  } catch (error) {
    return [problem(error instanceof Error ? error.message : String(error))];
  }
  if (secret === null) return [];
  if (secret.length < SECRET_CHARS_MIN)
    return [
      problem(
        "The file jwt-secret in DATA_DIR is damaged; delete it (all users must log in again), or set JWT_SECRET.",
      ),
    ];
  if (new Set(secret).size >= DISTINCT_CHARS_MIN) return [];
  return [
    warning(
      "JWT_SECRET has few different characters, so it may be easy to guess; generate one (openssl rand -base64 32).",
    ),
  ];
}
