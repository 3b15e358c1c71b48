import { Components } from "../../src/http/openapi-schema.ts";
import { frameScopes } from "../../src/modules/socket/commands.ts";
import { type ClientFrameType, clientFrames } from "../../src/protocol/frames.ts";
import type { TestClient } from "../support/client.ts";

/** The parts of a schema in OpenAPI 3.0's dialect that are used here. */
export type Schema = {
  type?: string;
  nullable?: boolean;
  enum?: unknown[];
  anyOf?: Schema[];
  format?: string;
  pattern?: string;
  minLength?: number;
  maxLength?: number;
  minimum?: number;
  maximum?: number;
  items?: Schema;
  minItems?: number;
  maxItems?: number;
  uniqueItems?: boolean;
  properties?: Record<string, Schema>;
  required?: string[];
  additionalProperties?: boolean | Schema;
};

export type Parameter = { in: "path" | "query" | "header"; name: string; required?: boolean; schema: Schema };

/** One method of one path, from the OpenAPI document. */
export type Operation = {
  /** `GET /api/v1/me` */
  name: string;
  id: string;
  method: string;
  path: string;
  parameters: Parameter[];
  body: Schema | null;
  isPublic: boolean;
  /** The required scope of an API key; null if it is public. */
  scope: string | null;
  /** How its requests may stay open: `events`, `download`, `upload`, `answer`. */
  streams: string[];
};

type Described = {
  operationId: string;
  parameters?: (Parameter | { $ref: string })[];
  requestBody?: { content: Record<string, { schema: Schema }> };
  security?: object[];
  "x-scope"?: string;
  "x-streams"?: string[];
};

/** All operations of a running Parley, from its document, so that new ones are covered automatically. */
export async function listOperations(parley: Pick<TestClient, "fetch">): Promise<Operation[]> {
  const response = await parley.fetch("/swagger/json");
  const { paths, components } = (await response.json()) as {
    paths: Record<string, Record<string, Described>>;
    components: { parameters?: Record<string, Parameter>; schemas: Record<string, object> };
  };
  const inline = (schema: object | undefined) => (schema ? (inlineRefs(schema, components.schemas) as Schema) : null);
  const resolve = (parameter: Parameter | { $ref: string }): Parameter => {
    const shared = "$ref" in parameter ? components.parameters?.[parameter.$ref.split("/").at(-1) ?? ""] : parameter;
    if (!shared) throw new Error(`${JSON.stringify(parameter)} is missing in the document.`);
    return shared;
  };
  return Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, described]) => ({
      name: `${method.toUpperCase()} ${path}`,
      id: described.operationId,
      method: method.toUpperCase(),
      path,
      parameters: described.parameters?.map(resolve) ?? [],
      body: inline(described.requestBody?.content["application/json"]?.schema),
      isPublic: !described.security?.length,
      scope: described["x-scope"] ?? null,
      streams: described["x-streams"] ?? [],
    })),
  );
}

/** Sorts the most destructive operations last: among deletions, those highest in the path hierarchy. */
export function byHarm(one: Operation, other: Operation): number {
  const rank = ({ method, path }: Operation) => {
    // Ends the other sessions.
    if (path === "/api/v1/me/password") return 2.09;
    return method === "GET" ? 0 : method === "DELETE" ? 2 + 1 / path.length : 1;
  };
  return rank(one) - rank(other);
}

export type FrameDescription = { type: ClientFrameType; schema: Schema; scope: string };

/** All frames that a client may send, from their schemas. */
export function listFrames(): FrameDescription[] {
  return (Object.keys(clientFrames) as ClientFrameType[]).map((type) => {
    const components = new Components();
    const schema = components.map(JSON.parse(JSON.stringify(clientFrames[type])), "in") as object;
    return {
      type,
      schema: inlineRefs(schema, components.list() as Record<string, object>) as Schema,
      scope: frameScopes[type],
    };
  });
}

/** A schema with each `$ref` resolved. */
function inlineRefs(part: unknown, schemas: Record<string, object>): unknown {
  if (Array.isArray(part)) return part.map((one) => inlineRefs(one, schemas));
  if (typeof part !== "object" || part === null) return part;
  const { $ref, allOf, ...rest } = part as { $ref?: string; allOf?: [object] };
  if ($ref !== undefined) return inlineRefs(schemas[$ref.split("/").at(-1) ?? ""], schemas);
  const plain = Object.fromEntries(Object.entries(rest).map(([key, value]) => [key, inlineRefs(value, schemas)]));
  return allOf === undefined ? plain : { ...(inlineRefs(allOf[0], schemas) as object), ...plain };
}
