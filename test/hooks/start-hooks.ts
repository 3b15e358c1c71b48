import type { CreatedHook } from "../../src/modules/hooks/model.ts";
import type { SentMessage } from "../../src/modules/messages/model.ts";
import type { TestApp } from "../support/app.ts";
import type { RestClient, RestResponse } from "../support/rest.ts";

/** Creates a hook in a conversation. */
export async function createHook(owner: RestClient, conversationId: string, input: object = {}): Promise<CreatedHook> {
  const { status, body } = await owner.request<CreatedHook>("POST", `/conversations/${conversationId}/hooks`, {
    name: "Deployments",
    ...input,
  });
  if (status !== 201) throw new Error(`creating a hook failed: ${status} ${JSON.stringify(body)}`);
  return body;
}

/** Posts to a hook without credentials. A body that isn't a string is sent as JSON. */
export async function postToHook<T = SentMessage>(
  parley: Pick<TestApp, "url">,
  { token }: { token: string },
  body: unknown,
  headers: Record<string, string> = {},
): Promise<RestResponse<T>> {
  const isText = typeof body === "string";
  const response = await fetch(`${parley.url}/api/v1/hooks/${token}`, {
    method: "POST",
    headers: { ...(!isText && { "content-type": "application/json" }), ...headers },
    body: isText ? body : JSON.stringify(body),
  });
  const text = await response.text();
  const isJson = response.headers.get("content-type")?.includes("json");
  return { status: response.status, headers: response.headers, body: (isJson ? JSON.parse(text) : text) as T };
}
