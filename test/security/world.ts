import type { Account, TestClient } from "../support/client.ts";
import { TEST_PASSWORD } from "../support/client.ts";
import { createConversation } from "../support/conversation.ts";
import { importFile } from "../support/imports.ts";
import { createRest, type Rest } from "../support/rest.ts";

export type World = Awaited<ReturnType<typeof createWorld>>;

/** Paths whose last parameter names nothing that belongs to a user. */
export const sharedPlaces = {
  "documents/{path}": "rest.md",
  "problems/{code}": "not_found",
  "models/{path}": "offline/documents",
  // The token itself is the credential (test/hooks/unusable-hooks.test.ts).
  "hooks/{token}": "hk_0000000000000000000000000000000000000000000",
};

/**
 * A user with one of everything that can be named in a path, and a unique word in all of it.
 * @param owner an administrator, so that every path has a response.
 */
export async function createWorld(parley: TestClient, owner: Account, word: string) {
  const rest = createRest(parley, owner);
  const colleague = await parley.register(`${word}-2@example.com`, `${word} colleague`);
  const create = async (path: string, json: object) => (await requireCreated(rest, path, json)).id;
  const prompt = await create("/prompts", { name: `${word} name`, template: `${word} template` });
  await rest.request("PATCH", `/prompts/${prompt}`, { template: `${word} newer template` });
  const conversation = await createConversation(parley, owner, [colleague], {
    title: `${word} title`,
    metadata: { secret: word },
    prompt_id: prompt,
  });
  const sent = await rest.request<{ message: { id: string } }>("POST", `/conversations/${conversation.id}/messages`, {
    content: `${word} content`,
  });
  const apiKey = await create("/api-keys", { name: `${word} key`, scopes: ["messages:read"] });
  const webhook = await create("/webhooks", {
    url: `https://${word}.invalid/`,
    events: ["*"],
    description: `${word} webhook`,
  });
  const delivery = await rest.request<{ id: string }>("POST", `/webhooks/${webhook}/test`);
  const hook = await rest.request<{ id: string; token: string }>("POST", `/conversations/${conversation.id}/hooks`, {
    name: `${word} hook`,
  });
  const imported = await createImport(parley, owner, word);
  await rest.request("PUT", "/me/preferences", { secret: word });
  const elsewhere = await parley.fetch("/api/v1/auth/login", {
    json: { email: owner.user.email, password: TEST_PASSWORD },
  });
  if (elsewhere.status !== 200) throw new Error(`login: ${elsewhere.status} ${await elsewhere.text()}`);
  const sessions = await rest.get<{ data: { id: string; current: boolean }[] }>("/me/sessions");
  const session = sessions.body.data.find(({ current }) => !current)?.id ?? "";

  /** By the path parameter and the segment before it. */
  const places: Record<string, string> = {
    "conversations/{id}": conversation.id,
    "members/{user_id}": colleague.user.id,
    "messages/{message_id}": sent.body.message.id,
    "prompts/{id}": prompt,
    "versions/{version}": "1",
    "sessions/{id}": session,
    "api-keys/{id}": apiKey,
    "webhooks/{id}": webhook,
    "deliveries/{delivery_id}": delivery.body.id,
    "hooks/{hook_id}": hook.body.id,
    "users/{id}": colleague.user.id,
    "imports/{id}": imported,
  };
  /** By the field of a body or of a frame. */
  const fields: Record<string, unknown> = {
    conversation_id: conversation.id,
    prompt_id: prompt,
    message_id: sent.body.message.id,
    parent_id: sent.body.message.id,
    user_id: colleague.user.id,
    on_behalf_of: colleague.user.id,
    metadata: { conversation_id: conversation.id },
  };
  const owned = [
    "/me",
    "/me/preferences",
    "/me/sessions",
    "/api-keys",
    "/webhooks",
    "/prompts",
    `/prompts/${prompt}/versions`,
    "/conversations",
    `/conversations/${conversation.id}/members`,
    `/conversations/${conversation.id}/messages`,
    `/conversations/${conversation.id}/events`,
    `/conversations/${conversation.id}/hooks`,
    `/users/${colleague.user.id}`,
    `/search?q=${word}`,
    "/imports",
    `/imports/${imported}`,
  ];

  return {
    owner,
    colleague,
    rest,
    word,
    places,
    fields,
    refreshToken: ((await elsewhere.json()) as Account).refresh_token,

    /** Everything that the owner has, as returned by the API, without usage timestamps. */
    async snapshot(): Promise<string> {
      const parts = await Promise.all(owned.map((path) => rest.get(path)));
      const wrong = parts.findIndex(({ status }) => status !== 200);
      if (wrong >= 0) throw new Error(`${owned[wrong]} is gone: ${JSON.stringify(parts[wrong]?.body)}`);
      return JSON.stringify(parts.map(({ body }) => body)).replaceAll(/"last_used_at":("[^"]*"|null)/g, "");
    },

    /** Whether every resource still exists. */
    async isWhole(): Promise<boolean> {
      const paths = ["/me", `/conversations/${conversation.id}/messages/${sent.body.message.id}`];
      paths.push(`/prompts/${prompt}`, `/api-keys/${apiKey}`, `/webhooks/${webhook}`);
      const answers = await Promise.all(paths.map((path) => rest.get<{ deleted_at?: string; role?: string }>(path)));
      return (
        answers.every(({ status, body }) => status === 200 && !body.deleted_at) && answers[0]?.body.role === "admin"
      );
    },
  };
}

/** An import whose report has the word. @returns its id. */
async function createImport(parley: TestClient, owner: Account, word: string): Promise<string> {
  const { id, report } = await importFile(parley, owner, "chatgpt", [{ title: `${word} import`, mapping: {} }]);
  if (!report.some(({ title }) => title.includes(word))) throw new Error("The import's report is empty.");
  return id;
}

async function requireCreated(rest: Rest, path: string, json: object): Promise<{ id: string }> {
  const { status, body } = await rest.request<{ id: string }>("POST", path, json);
  if (status !== 201) throw new Error(`${path}: ${status} ${JSON.stringify(body)}`);
  return body;
}

/**
 * The path with its parameters filled in, and whether it names a user's property.
 * @throws Error for a parameter without a value: when adding a route, add its resource to the world.
 */
export function fillPath(path: string, places: Readonly<Record<string, string>>): { path: string; isPrivate: boolean } {
  let isPrivate = false;
  const filled = path.replaceAll(/([\w-]+)\/(\{\w+\})/g, (place, before: string) => {
    const own = places[place];
    const value = own ?? (sharedPlaces as Record<string, string>)[place];
    if (!value) throw new Error(`Add a value for ${place} in ${path} to test/security/world.ts.`);
    isPrivate ||= own !== undefined;
    return `${before}/${encodeURIComponent(value)}`;
  });
  return { path: filled, isPrivate };
}
