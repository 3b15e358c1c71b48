import { FormatRegistry, type TSchema, Type } from "@sinclair/typebox";
import { parseHeaderFields } from "../lib/header-fields.ts";
import { listProviderNames, toSettingName } from "./providers.ts";
import type { SettingOptions } from "./setting-options.ts";

FormatRegistry.Set("header-fields", (value) => parseHeaderFields(value) !== null);

const IDLE_TIMEOUT_MS_MIN = 100;
const IDLE_TIMEOUT_MS_MAX = 600_000;

/** Defines a setting for an idle timeout. A model that sends nothing for this long has failed. */
export const idleTimeoutSetting = (description: string) =>
  Type.Optional(Type.Integer({ minimum: IDLE_TIMEOUT_MS_MIN, maximum: IDLE_TIMEOUT_MS_MAX, description }));

/** Defines a setting for a provider's API key: ASCII without spaces. */
export const apiKeySetting = (description: string) =>
  Type.Optional(Type.String({ minLength: 1, pattern: "^[\\x21-\\x7e]+$", secret: true, description }));

const headersSetting = (provider: string) =>
  Type.Optional(
    Type.String({
      minLength: 1,
      format: "header-fields",
      secret: true,
      example: '{"api-key":"0123456789abcdef"}',
      description:
        `Headers for every request to ${provider}, as a JSON object. They override the headers that Parley sends, ` +
        "including `authorization`.",
    }),
  );
const firstTokenTimeoutSetting = (provider: string) =>
  idleTimeoutSetting(`Overrides \`AI_FIRST_TOKEN_TIMEOUT_MS\` for the models of ${provider}.`);
const providerIdleTimeoutSetting = (provider: string) =>
  idleTimeoutSetting(`Overrides \`AI_IDLE_TIMEOUT_MS\` for the models of ${provider}.`);

/** The settings of the built-in network providers. */
export const builtInProviderSettings = {
  AI_OPENAI_HEADERS: headersSetting("`openai`"),
  AI_OPENAI_FIRST_TOKEN_TIMEOUT_MS: firstTokenTimeoutSetting("`openai`"),
  AI_OPENAI_IDLE_TIMEOUT_MS: providerIdleTimeoutSetting("`openai`"),
  AI_ANTHROPIC_HEADERS: headersSetting("`anthropic`"),
  AI_ANTHROPIC_FIRST_TOKEN_TIMEOUT_MS: firstTokenTimeoutSetting("`anthropic`"),
  AI_ANTHROPIC_IDLE_TIMEOUT_MS: providerIdleTimeoutSetting("`anthropic`"),
  AI_COMPATIBLE_HEADERS: headersSetting("`compatible`"),
  AI_COMPATIBLE_FIRST_TOKEN_TIMEOUT_MS: firstTokenTimeoutSetting("`compatible`"),
  AI_COMPATIBLE_IDLE_TIMEOUT_MS: providerIdleTimeoutSetting("`compatible`"),
};

type ProviderEntry = [name: string, schema: TSchema & SettingOptions];

/** Lists the settings of a server in AI_PROVIDERS. @param NAME its name as used in setting names. */
const listServerSettings = (NAME: string, provider: string): ProviderEntry[] =>
  [
    [
      `AI_${NAME}_API_KEY`,
      apiKeySetting(`Key for ${provider}, sent as \`Authorization: Bearer …\`. If unset, no key is sent.`),
    ],
    [`AI_${NAME}_HEADERS`, headersSetting(provider)],
    [`AI_${NAME}_FIRST_TOKEN_TIMEOUT_MS`, firstTokenTimeoutSetting(provider)],
    [`AI_${NAME}_IDLE_TIMEOUT_MS`, providerIdleTimeoutSetting(provider)],
  ] as ProviderEntry[];

/** Lists the settings of the servers in AI_PROVIDERS. */
export const listProviderSettings = (providers: readonly string[] | undefined): ProviderEntry[] =>
  listProviderNames(providers).flatMap((name) => listServerSettings(toSettingName(name), `\`${name}\``));

/** The documented settings of a server in AI_PROVIDERS, with the placeholder `<NAME>`. */
export const providerSettingsInDocs: readonly ProviderEntry[] = listServerSettings(
  "<NAME>",
  "the server `<name>` in `AI_PROVIDERS`",
).map(([name, schema], index) => {
  const note = " In the setting's name, `<NAME>` is the server's name in uppercase, with `_` instead of `-`.";
  return [name, { ...schema, description: schema.description + (index === 0 ? note : "") }];
});
