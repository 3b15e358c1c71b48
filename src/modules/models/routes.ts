import type { Chain, ModelState } from "../../ai/chain/chain.ts";
import { Page } from "../../http/pagination.ts";
import { type Route, route } from "../../http/route.ts";
import { Model } from "./model.ts";

type Dependencies = { chain: Pick<Chain, "listModels" | "describe" | "defaultModel"> };

/** Creates the routes of `/api/v1/models`. */
export const createModelRoutes = ({ chain }: Dependencies): Route[] => [
  route({
    method: "GET",
    path: "/api/v1/models",
    operationId: "listModels",
    summary: "List the configured models in fallback order, with their state",
    tag: "models",
    scope: "any",
    ok: Page(Model),
    handle: () => ({ data: chain.listModels().map((state) => mapToModel(state, chain)), next_cursor: null }),
  }),
];

function mapToModel(model: ModelState, { defaultModel, describe }: Dependencies["chain"]): Model {
  const { contextTokens, answerTokensMax, capabilities } = describe(model.id);
  return {
    id: model.id,
    provider: model.provider,
    state: model.state,
    until: model.state === "cooling_down" ? model.until.toISOString() : null,
    is_default: model.id === defaultModel,
    context_tokens: contextTokens,
    answer_tokens_max: answerTokensMax,
    abilities: [...capabilities],
  };
}
