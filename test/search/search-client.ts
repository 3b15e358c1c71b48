import type { TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { createRestClient, type RestClient } from "../support/rest.ts";

export type SearchHit = {
  message_id: string;
  conversation_id: string;
  conversation_title: string;
  seq: number;
  role: string;
  author: { display_name: string } | null;
  snippet: string;
  rank: number;
  created_at: string;
};

export const createUser = async (parley: TestApp, name?: string): Promise<RestClient> =>
  createRestClient(parley, await parley.register(undefined, name));

/** Creates a conversation, and returns its id. */
export async function createConversationId(
  parley: TestApp,
  owner: RestClient,
  members: RestClient[] = [],
  title = "Test",
) {
  const accounts = members.map(({ account }) => account);
  return (await createConversation(parley, owner.account, accounts, { title })).id;
}

/** Sends a message, and returns its id. */
export async function sendMessage(user: RestClient, conversationId: string, content: string): Promise<string> {
  const { status, body } = await user.request<{ message: { id: string } }>(
    "POST",
    `/conversations/${conversationId}/messages`,
    { content, reply: false },
  );
  if (status !== 201) throw new Error(`sendMessage: ${status} ${JSON.stringify(body)}`);
  return body.message.id;
}

export const createSearchPath = (q: string, filters: Record<string, string> = {}) =>
  `/search?${new URLSearchParams({ q, ...filters })}`;

export async function searchMessages(
  user: RestClient,
  q: string,
  filters: Record<string, string> = {},
): Promise<SearchHit[]> {
  const { status, body } = await user.get<{ data: SearchHit[] }>(createSearchPath(q, filters));
  if (status !== 200) throw new Error(`search: ${status} ${JSON.stringify(body)}`);
  return body.data;
}

export const findMessageIds = async (
  user: RestClient,
  q: string,
  filters: Record<string, string> = {},
): Promise<string[]> => (await searchMessages(user, q, filters)).map(({ message_id }) => message_id);

/** Waits until all pending messages are indexed. */
export async function waitForIndex({ database }: Pick<TestApp, "database">): Promise<void> {
  const deadlineMs = performance.now() + 25_000;
  const hasPending = async () =>
    (
      await database`
        select where exists (select from search_outbox) or exists (select from search_ranges)
          or exists (select from search_state where before_id is not null or language = '')`
    ).length > 0;
  while (await hasPending()) {
    if (performance.now() > deadlineMs) throw new Error("Indexing timed out.");
    await Bun.sleep(20);
  }
}
