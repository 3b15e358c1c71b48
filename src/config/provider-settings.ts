import { FormatRegistry, type TSchema, Type } from "@sinclair/typebox";
import { parseHeaderFields } from "../lib/header-fields.ts";
import { readProviderNames, toSettingName } from "./providers.ts";
import type { SettingOptions } from "./setting-options.ts";

FormatRegistry.Set("header-fields", (value) => parseHeaderFields(value) !== null);

const SILENCE_MS_MIN = 100;
const SILENCE_MS_MAX = 600_000;

/** Defines a setting for how long a model may send nothing. */
export const silenceTimeout = (description: string) =>
  Type.Optional(Type.Integer({ minimum: SILENCE_MS_MIN, maximum: SILENCE_MS_MAX, description }));

/** Defines a setting for a provider's API key: ASCII without spaces. */
export const apiKey = (description: string) =>
  Type.Optional(Type.String({ minLength: 1, pattern: "^[\\x21-\\x7e]+$", secret: true, description }));

const headersOf = (provider: string) =>
  Type.Optional(
    Type.String({
      minLength: 1,
      format: "header-fields",
      secret: true,
      example: '{"api-key":"0123456789abcdef"}',
      description:
        `Header fields for every request to ${provider}, as a JSON object. They replace those that Parley would ` +
        "send, `authorization` too.",
    }),
  );
const firstTokenOf = (provider: string) =>
  silenceTimeout(`\`AI_FIRST_TOKEN_TIMEOUT_MS\` for the models of ${provider} only; overrides the general setting.`);
const idleOf = (provider: string) =>
  silenceTimeout(`\`AI_IDLE_TIMEOUT_MS\` for the models of ${provider} only; overrides the general setting.`);

/** The settings of the built-in network providers. */
export const builtInProviderSettings = {
  AI_OPENAI_HEADERS: headersOf("`openai`"),
  AI_OPENAI_FIRST_TOKEN_TIMEOUT_MS: firstTokenOf("`openai`"),
  AI_OPENAI_IDLE_TIMEOUT_MS: idleOf("`openai`"),
  AI_ANTHROPIC_HEADERS: headersOf("`anthropic`"),
  AI_ANTHROPIC_FIRST_TOKEN_TIMEOUT_MS: firstTokenOf("`anthropic`"),
  AI_ANTHROPIC_IDLE_TIMEOUT_MS: idleOf("`anthropic`"),
  AI_COMPATIBLE_HEADERS: headersOf("`compatible`"),
  AI_COMPATIBLE_FIRST_TOKEN_TIMEOUT_MS: firstTokenOf("`compatible`"),
  AI_COMPATIBLE_IDLE_TIMEOUT_MS: idleOf("`compatible`"),
};

type ProviderEntry = [name: string, schema: TSchema & SettingOptions];

/** Lists the settings of one server in AI_PROVIDERS. `NAME` is its name as used in setting names. */
const listSettingsOf = (NAME: string, provider: string): ProviderEntry[] =>
  [
    [`AI_${NAME}_API_KEY`, apiKey(`Key of ${provider}, sent as \`Authorization: Bearer …\`. Absent: no key is sent.`)],
    [`AI_${NAME}_HEADERS`, headersOf(provider)],
    [`AI_${NAME}_FIRST_TOKEN_TIMEOUT_MS`, firstTokenOf(provider)],
    [`AI_${NAME}_IDLE_TIMEOUT_MS`, idleOf(provider)],
  ] as ProviderEntry[];

/** Lists the settings of the servers in AI_PROVIDERS. */
export const listProviderSettings = (providers: readonly string[] | undefined): ProviderEntry[] =>
  readProviderNames(providers).flatMap((name) => listSettingsOf(toSettingName(name), `\`${name}\``));

/** The settings of one server in AI_PROVIDERS as documented, with `<NAME>` for its name. */
export const providerSettingsInDocs: readonly ProviderEntry[] = listSettingsOf("<NAME>", "the server `<name>`").map(
  ([name, schema], index) => {
    const where = "For a server in `AI_PROVIDERS`: `<NAME>` is its name in uppercase, with `_` for `-`. ";
    return [name, { ...schema, description: (index === 0 ? where : "") + schema.description }];
  },
);
