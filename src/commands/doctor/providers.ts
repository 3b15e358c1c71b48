import { ANTHROPIC_BASE_URL_DEFAULT } from "../../ai/providers/anthropic/provider.ts";
import { OPENAI_BASE_URL_DEFAULT } from "../../ai/providers/openai/provider.ts";
import { listProviders, type ProviderConfig } from "../../config/list-providers.ts";
import { maskSecretAddress } from "../../lib/mask-address.ts";
import { type DoctorCheck, type DoctorContext, REQUEST_TIMEOUT_MS } from "./check.ts";
import { type Finding, ok, problem, skipped, warning } from "./finding.ts";
import { requestAnswer } from "./http-answer.ts";
import { explainStatus, findUnlisted, readModelIds } from "./judge-provider.ts";

/** The version of its API that Anthropic's SDK requests. */
const ANTHROPIC_VERSION = "2023-06-01";

/** Asks each configured provider for its list of models, which is free, and looks up those of AI_MODELS. */
export const providersCheck: DoctorCheck = {
  name: "providers",
  async find(context) {
    const { config, isOffline } = context;
    const configured = listProviders(config).filter(({ name, apiKey, baseUrl }) =>
      name === "openai" || name === "anthropic" ? apiKey !== undefined : baseUrl !== undefined,
    );
    if (configured.length === 0)
      return [
        warning(
          "No model provider is configured, so Parley answers from its documents only; set OPENAI_API_KEY, ANTHROPIC_API_KEY or COMPATIBLE_BASE_URL.",
        ),
      ];
    if (isOffline) return [skipped("--offline: the model providers are not called.")];
    return (await Promise.all(configured.map((provider) => examine(provider, context)))).flat();
  },
};

async function examine(provider: ProviderConfig, context: DoctorContext): Promise<Finding[]> {
  const limit = AbortSignal.timeout(REQUEST_TIMEOUT_MS);
  const { address, headers } = createModelsRequest(provider);
  const shown = maskSecretAddress(address);
  const named = `Provider ${provider.name} (${shown})`;
  const answer = await requestAnswer(context, address, { headers }, limit);
  if ("failure" in answer)
    return [
      problem(
        `${named} ${answer.failure}; check ${provider.baseUrl === undefined ? "" : `${provider.settings.address}, `}the network, and HTTPS_PROXY or HTTP_PROXY if a proxy is needed.${answer.hint}`,
      ),
    ];
  const refused = explainStatus(named, answer.status, provider.settings);
  if (refused) return [refused];
  const models = listModelsOf(provider.name, context.config.AI_MODELS);
  const ids = readModelIds(answer.json);
  if (ids === null)
    return [
      warning(
        `${named} responded without a list of models, so key and models can't be checked; check that ${provider.settings.address} is the base URL of an API.`,
      ),
    ];
  const unlisted = findUnlisted(models, ids);
  const missing = (await Promise.all(unlisted.map((model) => lookUp(model)))).flat();
  if (missing.length > 0) return missing;
  const found = models.length === 0 ? "" : ` and has ${models.join(", ")}`;
  return [ok(`${named} responds${found}.`)];

  /** The list may be incomplete, so each missing model is also requested by its name. */
  async function lookUp(model: string): Promise<Finding[]> {
    const request = createModelsRequest(provider, model);
    const single = await requestAnswer(context, request.address, { headers: request.headers }, limit);
    if ("status" in single && single.status === 200) return [];
    const sentence = `${named} has no model "${model}"; correct AI_MODELS (${shown} lists the names), or install the model there.`;
    return ["status" in single && single.status === 404 ? problem(sentence) : warning(sentence)];
  }
}

/** The names of a provider's models in AI_MODELS, without the provider. */
const listModelsOf = (provider: string, models: readonly string[]): string[] =>
  models.filter((model) => model.startsWith(`${provider}/`)).map((model) => model.slice(provider.length + 1));

/** The request for the list of models, or for one of them, with the credentials that requests for answers have. */
function createModelsRequest({ name, baseUrl, apiKey, headers }: ProviderConfig, model?: string) {
  const isAnthropic = name === "anthropic";
  const base = new URL(baseUrl ?? (isAnthropic ? ANTHROPIC_BASE_URL_DEFAULT : OPENAI_BASE_URL_DEFAULT));
  const parts = [isAnthropic ? "/v1" : "", "/models", model === undefined ? "" : `/${encodeURIComponent(model)}`];
  base.pathname = base.pathname.replace(/\/$/, "") + parts.join("");
  if (isAnthropic && model === undefined) base.searchParams.set("limit", "1000");
  const credentials: Record<string, string> = isAnthropic
    ? { "x-api-key": apiKey ?? "", "anthropic-version": ANTHROPIC_VERSION }
    : apiKey === undefined
      ? {}
      : { authorization: `Bearer ${apiKey}` };
  return { address: base.href, headers: { ...credentials, ...headers } };
}
