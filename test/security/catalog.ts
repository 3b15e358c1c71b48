import { Components } from "../../src/http/openapi-schema.ts";
import { frameScopes } from "../../src/modules/socket/commands.ts";
import { type ClientFrameType, clientFrames } from "../../src/protocol/frames.ts";
import type { TestClient } from "../support/client.ts";

/** The parts of an OpenAPI 3.0 schema that these tests use. */
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
  /** The scope that an API key needs; null if the operation is public. */
  scope: string | null;
  /** How the operation's requests can stay open: `events`, `download`, `upload`, `answer`. */
  streams: string[];
};

type OpenApiOperation = {
  operationId: string;
  parameters?: (Parameter | { $ref: string })[];
  requestBody?: { content: Record<string, { schema: Schema }> };
  security?: object[];
  "x-scope"?: string;
  "x-streams"?: string[];
};

/** Lists all operations in the OpenAPI document of a running Parley, so that tests cover new operations automatically. */
export async function listOperations(parley: Pick<TestClient, "fetch">): Promise<Operation[]> {
  const response = await parley.fetch("/swagger/json");
  const { paths, components } = (await response.json()) as {
    paths: Record<string, Record<string, OpenApiOperation>>;
    components: { parameters?: Record<string, Parameter>; schemas: Record<string, object> };
  };
  const inlineSchemaRefs = (schema: object | undefined) =>
    schema ? (inlineRefs(schema, components.schemas) as Schema) : null;
  const resolveParameter = (parameter: Parameter | { $ref: string }): Parameter => {
    const resolved = "$ref" in parameter ? components.parameters?.[parameter.$ref.split("/").at(-1) ?? ""] : parameter;
    if (!resolved) throw new Error(`${JSON.stringify(parameter)} is missing in the document.`);
    return resolved;
  };
  return Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({
      name: `${method.toUpperCase()} ${path}`,
      id: operation.operationId,
      method: method.toUpperCase(),
      path,
      parameters: operation.parameters?.map(resolveParameter) ?? [],
      body: inlineSchemaRefs(operation.requestBody?.content["application/json"]?.schema),
      isPublic: !operation.security?.length,
      scope: operation["x-scope"] ?? null,
      streams: operation["x-streams"] ?? [],
    })),
  );
}

/** Sorts destructive operations last. Among deletions, those with the shortest paths delete the most. */
export function compareDestructiveness(first: Operation, second: Operation): number {
  const rankOperation = ({ method, path }: Operation) => {
    // Changing the password revokes the user's other sessions, so it is sorted between the deletions.
    if (path === "/api/v1/me/password") return 2.09;
    return method === "GET" ? 0 : method === "DELETE" ? 2 + 1 / path.length : 1;
  };
  return rankOperation(first) - rankOperation(second);
}

export type FrameDescription = { type: ClientFrameType; schema: Schema; scope: string };

/** Lists all frames that a client can send, with their schemas. */
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

/** Replaces each `$ref` with its schema. */
function inlineRefs(part: unknown, schemas: Record<string, object>): unknown {
  if (Array.isArray(part)) return part.map((item) => inlineRefs(item, schemas));
  if (typeof part !== "object" || part === null) return part;
  const { $ref, allOf, ...rest } = part as { $ref?: string; allOf?: [object] };
  if ($ref !== undefined) return inlineRefs(schemas[$ref.split("/").at(-1) ?? ""], schemas);
  const inlined = Object.fromEntries(Object.entries(rest).map(([key, value]) => [key, inlineRefs(value, schemas)]));
  return allOf === undefined ? inlined : { ...(inlineRefs(allOf[0], schemas) as object), ...inlined };
}
