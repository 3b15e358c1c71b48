import { Page } from "../../http/pagination.ts";
import { type Route, route } from "../../http/route.ts";
import { Model } from "./model.ts";

type Dependencies = {
  /** The configured models in fallback order, with their state now. */
  listModels(): Model[];
};

/** `/api/v1/models`. */
export const createModelRoutes = ({ listModels }: Dependencies): Route[] => [
  route({
    method: "GET",
    path: "/api/v1/models",
    operationId: "listModels",
    summary: "The configured models in fallback order, with their state",
    tag: "models",
    scope: "any",
    ok: Page(Model),
    handle: () => ({ data: listModels(), next_cursor: null }),
  }),
];
