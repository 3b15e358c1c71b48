import type { TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { createRest, type Rest } from "../support/rest.ts";

export type Hit = {
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

export const createPerson = async (parley: TestApp, name?: string): Promise<Rest> =>
  createRest(parley, await parley.register(undefined, name));

export async function openConversation(parley: TestApp, owner: Rest, members: Rest[] = [], title = "Test") {
  const accounts = members.map(({ account }) => account);
  return (await createConversation(parley, owner.account, accounts, { title })).id;
}

/** @returns the id of the message. */
export async function sendMessage(person: Rest, conversation: string, content: string): Promise<string> {
  const { status, body } = await person.request<{ message: { id: string } }>(
    "POST",
    `/conversations/${conversation}/messages`,
    { content, reply: false },
  );
  if (status !== 201) throw new Error(`sendMessage: ${status} ${JSON.stringify(body)}`);
  return body.message.id;
}

export const pathOf = (q: string, filters: Record<string, string> = {}) =>
  `/search?${new URLSearchParams({ q, ...filters })}`;

export async function find(person: Rest, q: string, filters: Record<string, string> = {}): Promise<Hit[]> {
  const { status, body } = await person.get<{ data: Hit[] }>(pathOf(q, filters));
  if (status !== 200) throw new Error(`search: ${status} ${JSON.stringify(body)}`);
  return body.data;
}

export const findIds = async (person: Rest, q: string, filters: Record<string, string> = {}): Promise<string[]> =>
  (await find(person, q, filters)).map(({ message_id }) => message_id);

/** Waits until everything pending is in the index. */
export async function waitForIndex({ database }: Pick<TestApp, "database">): Promise<void> {
  const endsAtMs = performance.now() + 25_000;
  const isWaiting = async () =>
    (
      await database`
        select where exists (select from search_outbox) or exists (select from search_ranges)
          or exists (select from search_state where before_id is not null or language = '')`
    ).length > 0;
  while (await isWaiting()) {
    if (performance.now() > endsAtMs) throw new Error("Indexing timed out.");
    await Bun.sleep(20);
  }
}
