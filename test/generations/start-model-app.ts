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
type SendResult = { message: StoredMessage; reply: StoredMessage | null };

/** Starts an app whose models are served by a mock provider, which records the requests. */
export async function startModelApp(config: Record<string, string> = {}) {
  const provider = startMockProvider();
  const parley = await startApp({
    config: { COMPATIBLE_BASE_URL: provider.openaiUrl, AI_MODELS: "compatible/one", AI_MAX_RETRIES: "0", ...config },
  });

  /** Calls `find` until it returns a value. */
  async function waitForValue<T>(find: () => Promise<T | undefined> | T | undefined, waitMs = 5_000): Promise<T> {
    const deadlineMs = performance.now() + waitMs;
    for (;;) {
      const found = await find();
      if (found !== undefined) return found;
      if (performance.now() > deadlineMs) throw new Error(`The condition was not met in ${waitMs} ms.`);
      await Bun.sleep(10);
    }
  }

  async function waitForAnswer(account: Account, conversationId: string, id: string): Promise<StoredMessage> {
    return waitForValue(async () => {
      const path = `/api/v1/conversations/${conversationId}/messages/${id}`;
      const message = (await (await parley.fetch(path, { token: account.access_token })).json()) as StoredMessage;
      return message.status === "streaming" ? undefined : message;
    });
  }

  return {
    provider,
    parley,
    waitForValue,
    createConversation: (owner: Account, members: Account[] = [], input: Record<string, unknown> = {}) =>
      createConversation(parley, owner, members, { kind: "direct", ...input }),

    /** Sends a message, and waits until its answer (if any) has finished. */
    async sendMessage(
      account: Account,
      conversationId: string,
      content: string,
      options: Record<string, unknown> = {},
    ): Promise<SendResult> {
      const response = await parley.fetch(`/api/v1/conversations/${conversationId}/messages`, {
        token: account.access_token,
        json: { content, reply: true, ...options },
      });
      if (response.status !== 201)
        throw new Error(`sending a message failed: ${response.status} ${await response.text()}`);
      const sendResult = (await response.json()) as SendResult;
      return {
        ...sendResult,
        reply: sendResult.reply && (await waitForAnswer(account, conversationId, sendResult.reply.id)),
      };
    },

    /** Regenerates an answer, and waits until the new answer has finished. */
    async regenerateAnswer(account: Account, conversationId: string, messageId: string): Promise<StoredMessage> {
      const path = `/api/v1/conversations/${conversationId}/messages/${messageId}/regenerate`;
      const response = await parley.fetch(path, { method: "POST", token: account.access_token });
      const { reply } = (await response.json()) as SendResult;
      return waitForAnswer(account, conversationId, reply?.id ?? "");
    },

    /** Returns the messages in the last request to a model. */
    getReceivedMessages(model = "one"): ReceivedMessage[] {
      return (provider.listRequests(model).at(-1)?.body.messages ?? []) as ReceivedMessage[];
    },

    async stop(): Promise<void> {
      await parley.stop();
      await provider.stop();
    },
  };
}

export type ModelApp = Awaited<ReturnType<typeof startModelApp>>;
