import { type Account, startApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { startMockProvider } from "../support/mock-provider/server.ts";

export type StoredMessage = {
  id: string;
  seq: number;
  content: string;
  status: string;
  parent_id: string | null;
  metadata: Record<string, unknown>;
};
export type ReceivedMessage = { role: string; content: string };
type Sent = { message: StoredMessage; reply: StoredMessage | null };

/** An app whose models are served by the stub over Chat Completions, so that tests can read the requests. */
export async function startModelApp(config: Record<string, string> = {}) {
  const provider = startMockProvider();
  const parley = await startApp({
    config: { COMPATIBLE_BASE_URL: provider.openaiUrl, AI_MODELS: "compatible/one", AI_MAX_RETRIES: "0", ...config },
  });

  async function waitUntil<T>(find: () => Promise<T | undefined> | T | undefined, waitMs = 5_000): Promise<T> {
    const endsAtMs = performance.now() + waitMs;
    for (;;) {
      const found = await find();
      if (found !== undefined) return found;
      if (performance.now() > endsAtMs) throw new Error(`The condition was not met in ${waitMs} ms.`);
      await Bun.sleep(10);
    }
  }

  async function waitForAnswer(account: Account, conversationId: string, id: string): Promise<StoredMessage> {
    return waitUntil(async () => {
      const path = `/api/v1/conversations/${conversationId}/messages/${id}`;
      const message = (await (await parley.fetch(path, { token: account.access_token })).json()) as StoredMessage;
      return message.status === "streaming" ? undefined : message;
    });
  }

  return {
    provider,
    parley,
    waitUntil,
    createConversation: (owner: Account, members: Account[] = [], input: Record<string, unknown> = {}) =>
      createConversation(parley, owner, members, { kind: "direct", ...input }),

    /** Sends a message, and waits for the answer if there is one. */
    async say(
      account: Account,
      conversationId: string,
      content: string,
      more: Record<string, unknown> = {},
    ): Promise<Sent> {
      const answer = await parley.fetch(`/api/v1/conversations/${conversationId}/messages`, {
        token: account.access_token,
        json: { content, reply: true, ...more },
      });
      if (answer.status !== 201) throw new Error(`send: ${answer.status} ${await answer.text()}`);
      const sent = (await answer.json()) as Sent;
      return { ...sent, reply: sent.reply && (await waitForAnswer(account, conversationId, sent.reply.id)) };
    },

    /** Regenerates an answer, and waits for it. */
    async regenerate(account: Account, conversationId: string, messageId: string): Promise<StoredMessage> {
      const path = `/api/v1/conversations/${conversationId}/messages/${messageId}/regenerate`;
      const answer = await parley.fetch(path, { method: "POST", token: account.access_token });
      const { reply } = (await answer.json()) as Sent;
      return waitForAnswer(account, conversationId, reply?.id ?? "");
    },

    /** The messages that a model received last. */
    readReceived(model = "one"): ReceivedMessage[] {
      return (provider.requestsOf(model).at(-1)?.body.messages ?? []) as ReceivedMessage[];
    },

    async stop(): Promise<void> {
      await parley.stop();
      await provider.stop();
    },
  };
}

export type ModelApp = Awaited<ReturnType<typeof startModelApp>>;
