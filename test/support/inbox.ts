import type { Account, TestClient } from "./client.ts";
import { type Frame, openSocket, type TestSocket } from "./socket.ts";

/** An `inbox` push. */
export type InboxFrame = Frame & {
  conversation_id: string;
  change: "added" | "removed" | "updated";
  title: string;
  last_seq: number;
  last_read_seq: number;
  unread: number;
  updated_at: string;
};

export type TestInbox = Awaited<ReturnType<typeof openInbox>>;

/** Opens a socket and subscribes to the account's inbox. */
export async function openInbox(parley: Pick<TestClient, "url">, account: Account) {
  const socket = await openSocket(parley.url, { token: account.access_token });
  const ack = await socket.request({ type: "inbox.subscribe" });
  if (ack.type !== "ack") throw new Error(`inbox.subscribe: ${JSON.stringify(ack)}`);
  const listFrames = () => socket.list("inbox") as InboxFrame[];
  return {
    ...socket,
    account,
    unread: ack.unread as number,
    /** Lists the received inbox frames of one conversation, or of all conversations if `conversationId` is absent. */
    list: (conversationId?: string) =>
      listFrames().filter(({ conversation_id }) => !conversationId || conversation_id === conversationId),
    /** Waits for an inbox frame with these fields unless it has already been received. */
    waitForChange: (fields: Partial<InboxFrame>) =>
      socket.waitFor((frame) =>
        Object.entries({ type: "inbox", ...fields }).every(([name, value]) => frame[name] === value),
      ) as Promise<InboxFrame>,
  } satisfies Partial<Record<keyof TestSocket, unknown>> & Record<string, unknown>;
}

type State = Pick<InboxFrame, "title" | "last_seq" | "last_read_seq" | "unread" | "updated_at">;

const pickState = ({ title, last_seq, last_read_seq, unread, updated_at }: State): State => ({
  title,
  last_seq,
  last_read_seq,
  unread,
  updated_at,
});

/** Waits until an inbox matches the REST API's list of conversations. @throws Error on timeout. */
export async function waitForInboxToMatchList(
  inbox: Pick<TestInbox, "list" | "account">,
  parley: Pick<TestClient, "fetch">,
  waitMs = 10_000,
): Promise<void> {
  const deadlineMs = performance.now() + waitMs;
  for (;;) {
    const [inboxState, listState] = [computeInbox(inbox.list()), await listConversations(parley, inbox.account)];
    if (Bun.deepEquals(inboxState, listState)) return;
    if (performance.now() > deadlineMs)
      throw new Error(`The inbox shows ${JSON.stringify(inboxState)}, but the list is ${JSON.stringify(listState)}.`);
    await Bun.sleep(50);
  }
}

/** Applies frames to an empty inbox, as a client does, and returns the resulting conversations by id. */
function computeInbox(frames: InboxFrame[]): Record<string, State> {
  const conversations = new Map<string, State>();
  for (const frame of frames) {
    if (frame.change === "removed") conversations.delete(frame.conversation_id);
    else conversations.set(frame.conversation_id, pickState(frame));
  }
  return Object.fromEntries(conversations);
}

/** Returns a user's conversations from the REST API, by id. */
export async function listConversations(
  parley: Pick<TestClient, "fetch">,
  account: Account,
): Promise<Record<string, State>> {
  const response = await parley.fetch("/api/v1/conversations?limit=200", { token: account.access_token });
  if (response.status !== 200) throw new Error(`conversations: ${response.status}`);
  const { data } = (await response.json()) as { data: (State & { id: string })[] };
  return Object.fromEntries(data.map((conversation) => [conversation.id, pickState(conversation)]));
}
