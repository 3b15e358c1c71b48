import type { Account, TestClient } from "./client.ts";
import { type Frame, openSocket, type TestSocket } from "./socket.ts";

/** The state of a conversation in an inbox. */
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

/** A socket that has subscribed to the inbox of its user. */
export async function openInbox(parley: Pick<TestClient, "url">, account: Account) {
  const socket = await openSocket(parley.url, { token: account.access_token });
  const ack = await socket.request({ type: "inbox.subscribe" });
  if (ack.type !== "ack") throw new Error(`inbox.subscribe: ${JSON.stringify(ack)}`);
  const list = () => socket.list("inbox") as InboxFrame[];
  return {
    ...socket,
    account,
    unread: ack.unread as number,
    /** Its inbox frames, for one conversation or all. */
    list: (conversationId?: string) =>
      list().filter(({ conversation_id }) => !conversationId || conversation_id === conversationId),
    /** The first inbox frame with these fields, among those received so far or later. */
    waitForChange: (fields: Partial<InboxFrame>) =>
      socket.waitFor((frame) =>
        Object.entries({ type: "inbox", ...fields }).every(([name, value]) => frame[name] === value),
      ) as Promise<InboxFrame>,
  } satisfies Partial<Record<keyof TestSocket, unknown>> & Record<string, unknown>;
}

type State = Pick<InboxFrame, "title" | "last_seq" | "last_read_seq" | "unread" | "updated_at">;

const pick = ({ title, last_seq, last_read_seq, unread, updated_at }: State): State => ({
  title,
  last_seq,
  last_read_seq,
  unread,
  updated_at,
});

/** Waits until a client's inbox equals the list of conversations. @throws Error on a timeout. */
export async function waitForList(
  inbox: Pick<TestInbox, "list" | "account">,
  parley: Pick<TestClient, "fetch">,
  waitMs = 10_000,
): Promise<void> {
  const untilMs = performance.now() + waitMs;
  for (;;) {
    const [shown, list] = [applyFrames(inbox.list()), await listShown(parley, inbox.account)];
    if (Bun.deepEquals(shown, list)) return;
    if (performance.now() > untilMs)
      throw new Error(`The inbox shows ${JSON.stringify(shown)}, the list ${JSON.stringify(list)}.`);
    await Bun.sleep(50);
  }
}

/** The inbox of a client that applies the frames to the initial list. */
function applyFrames(frames: InboxFrame[], list: Record<string, State> = {}): Record<string, State> {
  const shown = new Map(Object.entries(list));
  for (const frame of frames) {
    if (frame.change === "removed") shown.delete(frame.conversation_id);
    else shown.set(frame.conversation_id, pick(frame));
  }
  return Object.fromEntries(shown);
}

/** The list of conversations, in the same form. */
export async function listShown(parley: Pick<TestClient, "fetch">, account: Account): Promise<Record<string, State>> {
  const response = await parley.fetch("/api/v1/conversations?limit=200", { token: account.access_token });
  if (response.status !== 200) throw new Error(`conversations: ${response.status}`);
  const { data } = (await response.json()) as { data: (State & { id: string })[] };
  return Object.fromEntries(data.map((one) => [one.id, pick(one)]));
}
