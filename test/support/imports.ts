import type { Import } from "../../src/modules/imports/model.ts";
import type { Account, TestClient } from "./client.ts";

type Node = { id: string; message: unknown; parent: string | null; children: string[] };
type TestMessage = {
  role?: string;
  text?: string;
  parent?: string | null;
  at?: number | string | null;
  model?: string;
  content?: unknown;
  metadata?: object;
  recipient?: string;
};

/** The creation time of the exported test conversations, as a Unix timestamp in seconds. */
export const EXPORT_START_S = 1_700_000_000;

/**
 * Creates a conversation in ChatGPT's export format. The keys of `messages` are the message ids. By default, each message
 * replies to the previous message, and its creation time is one second later.
 */
export function createChatGptConversation(
  id: string,
  messages: Record<string, TestMessage>,
  overrides: object = {},
): object {
  const mapping: Record<string, Node> = { root: { id: "root", message: null, parent: null, children: [] } };
  let previousId = "root";
  let messageCount = 0;
  for (const [
    messageId,
    { role, text = messageId, parent = previousId, at, model, content, metadata, recipient },
  ] of Object.entries(messages)) {
    messageCount += 1;
    const message = {
      id: messageId,
      author: { role: role ?? (messageCount % 2 === 1 ? "user" : "assistant"), name: null, metadata: {} },
      create_time: at === undefined ? EXPORT_START_S + messageCount : at,
      content: content ?? { content_type: "text", parts: [text] },
      metadata: { ...(model && { model_slug: model }), ...metadata },
      recipient: recipient ?? "all",
    };
    mapping[messageId] = { id: messageId, message, parent, children: [] };
    if (parent !== null) mapping[parent]?.children.push(messageId);
    previousId = messageId;
  }
  return {
    title: `Title of ${id}`,
    create_time: EXPORT_START_S,
    update_time: EXPORT_START_S + messageCount,
    mapping,
    current_node: previousId,
    conversation_id: id,
    ...overrides,
  };
}

/** Creates a conversation in Claude's export format. */
export function createClaudeConversation(id: string, contents: readonly string[], overrides: object = {}): object {
  const formatTime = (secondsAfterStart: number) =>
    new Date((EXPORT_START_S + secondsAfterStart) * 1_000).toISOString();
  return {
    uuid: id,
    name: `Title of ${id}`,
    created_at: formatTime(0),
    updated_at: formatTime(contents.length),
    chat_messages: contents.map((text, index) => ({
      uuid: `${id}-${index}`,
      text,
      content: [{ type: "text", text }],
      sender: index % 2 === 0 ? "human" : "assistant",
      created_at: formatTime(index + 1),
      attachments: [],
      files: [],
    })),
    ...overrides,
  };
}

type Client = Pick<TestClient, "fetch">;

/** Starts an import by uploading a file. */
export function uploadFile(
  parley: Client,
  { access_token: token }: Account,
  source: string,
  body: NonNullable<RequestInit["body"]>,
  headers: Record<string, string> = { "content-type": "application/json" },
): Promise<Response> {
  return parley.fetch(`/api/v1/imports?source=${source}`, { method: "POST", token, body, headers });
}

/** Imports a file, and waits until the import has finished. */
export async function importFile(parley: Client, account: Account, source: string, file: unknown): Promise<Import> {
  const body = typeof file === "string" ? file : JSON.stringify(file);
  const response = await uploadFile(parley, account, source, body);
  if (response.status !== 202) throw new Error(`import: ${response.status} ${await response.text()}`);
  return waitForImport(parley, account, ((await response.json()) as Import).id);
}

/** Waits until an import has finished or failed. */
export async function waitForImport(parley: Client, { access_token: token }: Account, id: string): Promise<Import> {
  for (;;) {
    const response = await parley.fetch(`/api/v1/imports/${id}`, { token });
    // Some tests make the database briefly unavailable.
    if (response.status === 503) {
      await response.body?.cancel();
      await Bun.sleep(20);
      continue;
    }
    if (response.status !== 200) throw new Error(`import: ${response.status} ${await response.text()}`);
    const currentImport = (await response.json()) as Import;
    if (currentImport.status === "done" || currentImport.status === "failed") return currentImport;
    await Bun.sleep(20);
  }
}
