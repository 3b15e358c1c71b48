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
 * Creates a conversation in ChatGPT's export format. The keys of `messages` are their ids. By default, each message
 * replies to the previous one and was created one second after it.
 */
export function createChatGptConversation(
  id: string,
  messages: Record<string, TestMessage>,
  other: object = {},
): object {
  const mapping: Record<string, Node> = { root: { id: "root", message: null, parent: null, children: [] } };
  let previous = "root";
  let n = 0;
  for (const [
    name,
    { role, text = name, parent = previous, at, model, content, metadata, recipient },
  ] of Object.entries(messages)) {
    n += 1;
    const message = {
      id: name,
      author: { role: role ?? (n % 2 === 1 ? "user" : "assistant"), name: null, metadata: {} },
      create_time: at === undefined ? EXPORT_START_S + n : at,
      content: content ?? { content_type: "text", parts: [text] },
      metadata: { ...(model && { model_slug: model }), ...metadata },
      recipient: recipient ?? "all",
    };
    mapping[name] = { id: name, message, parent, children: [] };
    if (parent !== null) mapping[parent]?.children.push(name);
    previous = name;
  }
  return {
    title: `Title of ${id}`,
    create_time: EXPORT_START_S,
    update_time: EXPORT_START_S + n,
    mapping,
    current_node: previous,
    conversation_id: id,
    ...other,
  };
}

/** Creates a conversation in Claude's export format. */
export function createClaudeConversation(id: string, texts: readonly string[], overrides: object = {}): object {
  const at = (n: number) => new Date((EXPORT_START_S + n) * 1_000).toISOString();
  return {
    uuid: id,
    name: `Title of ${id}`,
    created_at: at(0),
    updated_at: at(texts.length),
    chat_messages: texts.map((text, n) => ({
      uuid: `${id}-${n}`,
      text,
      content: [{ type: "text", text }],
      sender: n % 2 === 0 ? "human" : "assistant",
      created_at: at(n + 1),
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
    const found = (await response.json()) as Import;
    if (found.status === "done" || found.status === "failed") return found;
    await Bun.sleep(20);
  }
}
