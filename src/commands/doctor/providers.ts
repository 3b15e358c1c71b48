import { ANTHROPIC_BASE_URL_DEFAULT } from "../../ai/providers/anthropic/provider.ts";
import { OPENAI_BASE_URL_DEFAULT } from "../../ai/providers/openai/provider.ts";
import { listProviders, type ProviderConfig } from "../../config/list-providers.ts";
import { maskSecretAddress } from "../../lib/mask-address.ts";
import { type DoctorCheck, type DoctorContext, REQUEST_TIMEOUT_MS } from "./check.ts";
import { type Finding, ok, problem, skipped, warning } from "./finding.ts";
import { requestJson } from "./http-response.ts";
import { explainErrorStatus, findUnlistedModels, parseModelIds } from "./provider-findings.ts";

/** The API version that Anthropic's SDK requests. */
const ANTHROPIC_VERSION = "2023-06-01";

/** Requests each configured provider's list of models, which is free of charge, and looks up the models of AI_MODELS in the lists. */
export const providersCheck: DoctorCheck = {
  name: "providers",
  async run(context) {
    const { config, isOffline } = context;
    const configuredProviders = listProviders(config).filter(({ name, apiKey, baseUrl }) =>
      name === "openai" || name === "anthropic" ? apiKey !== undefined : baseUrl !== undefined,
    );
    if (configuredProviders.length === 0)
      return [
        warning(
          "No model provider is configured, so Parley answers only from its documents; set OPENAI_API_KEY, ANTHROPIC_API_KEY or COMPATIBLE_BASE_URL.",
        ),
      ];
    if (isOffline) return [skipped("--offline: the model providers are not called.")];
    return (await Promise.all(configuredProviders.map((provider) => checkProvider(provider, context)))).flat();
  },
};

async function checkProvider(provider: ProviderConfig, context: DoctorContext): Promise<Finding[]> {
  const timeoutSignal = AbortSignal.timeout(REQUEST_TIMEOUT_MS);
  const { address, headers } = createModelsRequest(provider);
  const maskedUrl = maskSecretAddress(address);
  const label = `Provider ${provider.name} (${maskedUrl})`;
  const outcome = await requestJson(context, address, { headers }, timeoutSignal);
  if ("failure" in outcome)
    return [
      problem(
        `${label} ${outcome.failure}; check ${provider.baseUrl === undefined ? "" : `${provider.settings.urlDescription}, `}the network, and HTTPS_PROXY or HTTP_PROXY if a proxy is needed.${outcome.hint}`,
      ),
    ];
  const errorFinding = explainErrorStatus(label, outcome.status, provider.settings);
  if (errorFinding) return [errorFinding];
  const models = listProviderModels(provider.name, context.config.AI_MODELS);
  const ids = parseModelIds(outcome.json);
  if (ids === null)
    return [
      warning(
        `${label} did not respond with a list of models, so the key and the models can't be checked; check that ${provider.settings.urlDescription} is the base URL of an API.`,
      ),
    ];
  const unlistedModels = findUnlistedModels(models, ids);
  const missingFindings = (await Promise.all(unlistedModels.map((model) => checkModel(model)))).flat();
  if (missingFindings.length > 0) return missingFindings;
  const modelList = models.length === 0 ? "" : ` and has ${models.join(", ")}`;
  return [ok(`${label} responds${modelList}.`)];

  /** Requests the model by name, because the list may be incomplete. */
  async function checkModel(model: string): Promise<Finding[]> {
    const request = createModelsRequest(provider, model);
    const modelOutcome = await requestJson(context, request.address, { headers: request.headers }, timeoutSignal);
    if ("status" in modelOutcome && modelOutcome.status === 200) return [];
    const message = `${label} has no model "${model}"; correct AI_MODELS (${maskedUrl} lists the names), or install the model there.`;
    return ["status" in modelOutcome && modelOutcome.status === 404 ? problem(message) : warning(message)];
  }
}

/** Returns a provider's models in AI_MODELS, without the provider prefix. */
const listProviderModels = (provider: string, models: readonly string[]): string[] =>
  models.filter((model) => model.startsWith(`${provider}/`)).map((model) => model.slice(provider.length + 1));

/** Creates an authenticated request for the list of models, or for one model. */
function createModelsRequest({ name, baseUrl, apiKey, headers }: ProviderConfig, model?: string) {
  const isAnthropic = name === "anthropic";
  const url = new URL(baseUrl ?? (isAnthropic ? ANTHROPIC_BASE_URL_DEFAULT : OPENAI_BASE_URL_DEFAULT));
  const pathParts = [isAnthropic ? "/v1" : "", "/models", model === undefined ? "" : `/${encodeURIComponent(model)}`];
  url.pathname = url.pathname.replace(/\/$/, "") + pathParts.join("");
  if (isAnthropic && model === undefined) url.searchParams.set("limit", "1000");
  const credentials: Record<string, string> = isAnthropic
    ? { "x-api-key": apiKey ?? "", "anthropic-version": ANTHROPIC_VERSION }
    : apiKey === undefined
      ? {}
      : { authorization: `Bearer ${apiKey}` };
  return { address: url.href, headers: { ...credentials, ...headers } };
}
