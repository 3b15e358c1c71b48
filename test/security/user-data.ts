import type { Account, TestClient } from "../support/client.ts";
import { TEST_PASSWORD } from "../support/client.ts";
import { createConversation } from "../support/conversation.ts";
import { importFile } from "../support/imports.ts";
import { createRestClient, type RestClient } from "../support/rest.ts";

export type UserData = Awaited<ReturnType<typeof createUserData>>;

/** Values of path parameters that don't refer to a user's resource. Each key is the parameter with its preceding segment. */
export const publicPathValues = {
  "documents/{path}": "rest.md",
  "problems/{code}": "not_found",
  "models/{path}": "offline/documents",
  // The token itself is the credential (test/hooks/unusable-hooks.test.ts).
  "hooks/{token}": "hk_0000000000000000000000000000000000000000000",
};

/**
 * Creates one resource of each kind that a path can refer to. The text of each resource contains the unique `word`.
 * @param owner An administrator, who can use every path.
 */
export async function createUserData(parley: TestClient, owner: Account, word: string) {
  const rest = createRestClient(parley, owner);
  const colleague = await parley.register(`${word}-2@example.com`, `${word} colleague`);
  const createResource = async (path: string, json: object) => (await requireCreated(rest, path, json)).id;
  const promptId = await createResource("/prompts", { name: `${word} name`, template: `${word} template` });
  await rest.request("PATCH", `/prompts/${promptId}`, { template: `${word} newer template` });
  const conversation = await createConversation(parley, owner, [colleague], {
    title: `${word} title`,
    metadata: { secret: word },
    prompt_id: promptId,
  });
  const sent = await rest.request<{ message: { id: string } }>("POST", `/conversations/${conversation.id}/messages`, {
    content: `${word} content`,
  });
  const apiKeyId = await createResource("/api-keys", { name: `${word} key`, scopes: ["messages:read"] });
  const webhookId = await createResource("/webhooks", {
    url: `https://${word}.invalid/`,
    events: ["*"],
    description: `${word} webhook`,
  });
  const delivery = await rest.request<{ id: string }>("POST", `/webhooks/${webhookId}/test`);
  const hook = await rest.request<{ id: string; token: string }>("POST", `/conversations/${conversation.id}/hooks`, {
    name: `${word} hook`,
  });
  const importId = await createImport(parley, owner, word);
  await rest.request("PUT", "/me/preferences", { secret: word });
  const login = await parley.fetch("/api/v1/auth/login", {
    json: { email: owner.user.email, password: TEST_PASSWORD },
  });
  if (login.status !== 200) throw new Error(`login: ${login.status} ${await login.text()}`);
  const sessions = await rest.get<{ data: { id: string; current: boolean }[] }>("/me/sessions");
  const otherSessionId = sessions.body.data.find(({ current }) => !current)?.id ?? "";

  /** Values of path parameters. Each key is the parameter with its preceding segment. */
  const pathValues: Record<string, string> = {
    "conversations/{id}": conversation.id,
    "members/{user_id}": colleague.user.id,
    "messages/{message_id}": sent.body.message.id,
    "prompts/{id}": promptId,
    "versions/{version}": "1",
    "sessions/{id}": otherSessionId,
    "api-keys/{id}": apiKeyId,
    "webhooks/{id}": webhookId,
    "deliveries/{delivery_id}": delivery.body.id,
    "hooks/{hook_id}": hook.body.id,
    "users/{id}": colleague.user.id,
    "imports/{id}": importId,
  };
  /** Values of fields in bodies and frames. */
  const fields: Record<string, unknown> = {
    conversation_id: conversation.id,
    prompt_id: promptId,
    message_id: sent.body.message.id,
    parent_id: sent.body.message.id,
    user_id: colleague.user.id,
    on_behalf_of: colleague.user.id,
    metadata: { conversation_id: conversation.id },
  };
  const readPaths = [
    "/me",
    "/me/preferences",
    "/me/sessions",
    "/api-keys",
    "/webhooks",
    "/prompts",
    `/prompts/${promptId}/versions`,
    "/conversations",
    `/conversations/${conversation.id}/members`,
    `/conversations/${conversation.id}/messages`,
    `/conversations/${conversation.id}/events`,
    `/conversations/${conversation.id}/hooks`,
    `/users/${colleague.user.id}`,
    `/search?q=${word}`,
    "/imports",
    `/imports/${importId}`,
  ];

  return {
    owner,
    colleague,
    rest,
    word,
    pathValues,
    fields,
    refreshToken: ((await login.json()) as Account).refresh_token,

    /** Returns the owner's data as JSON from the API, without usage timestamps. */
    async snapshot(): Promise<string> {
      const responses = await Promise.all(readPaths.map((path) => rest.get(path)));
      const failedIndex = responses.findIndex(({ status }) => status !== 200);
      if (failedIndex >= 0)
        throw new Error(`${readPaths[failedIndex]} failed: ${JSON.stringify(responses[failedIndex]?.body)}`);
      return JSON.stringify(responses.map(({ body }) => body)).replaceAll(/"last_used_at":("[^"]*"|null)/g, "");
    },

    /** Returns whether every resource still exists. */
    async isComplete(): Promise<boolean> {
      const paths = ["/me", `/conversations/${conversation.id}/messages/${sent.body.message.id}`];
      paths.push(`/prompts/${promptId}`, `/api-keys/${apiKeyId}`, `/webhooks/${webhookId}`);
      const responses = await Promise.all(paths.map((path) => rest.get<{ deleted_at?: string; role?: string }>(path)));
      return (
        responses.every(({ status, body }) => status === 200 && !body.deleted_at) && responses[0]?.body.role === "admin"
      );
    },
  };
}

/** Creates an import whose report contains the word, and returns its id. */
async function createImport(parley: TestClient, owner: Account, word: string): Promise<string> {
  const { id, report } = await importFile(parley, owner, "chatgpt", [{ title: `${word} import`, mapping: {} }]);
  if (!report.some(({ title }) => title.includes(word))) throw new Error("The import's report is empty.");
  return id;
}

async function requireCreated(rest: RestClient, path: string, json: object): Promise<{ id: string }> {
  const { status, body } = await rest.request<{ id: string }>("POST", path, json);
  if (status !== 201) throw new Error(`${path}: ${status} ${JSON.stringify(body)}`);
  return body;
}

/**
 * Fills in the parameters of a path. `refersToUser` is set if the path refers to a user's resource.
 * @throws Error for a parameter without a value. When adding a route, add its resource to `createUserData`.
 */
export function fillPath(
  path: string,
  pathValues: Readonly<Record<string, string>>,
): { path: string; refersToUser: boolean } {
  let refersToUser = false;
  const filledPath = path.replaceAll(/([\w-]+)\/(\{\w+\})/g, (parameter, before: string) => {
    const privateValue = pathValues[parameter];
    const value = privateValue ?? (publicPathValues as Record<string, string>)[parameter];
    if (!value) throw new Error(`Add a value for ${parameter} in ${path} to test/security/user-data.ts.`);
    refersToUser ||= privateValue !== undefined;
    return `${before}/${encodeURIComponent(value)}`;
  });
  return { path: filledPath, refersToUser };
}
