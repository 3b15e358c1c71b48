import type { Import } from "../../src/modules/imports/model.ts";
import type { Account, TestClient } from "./client.ts";

type Node = { id: string; message: unknown; parent: string | null; children: string[] };
type MessageInput = {
  role?: string;
  text?: string;
  parent?: string | null;
  at?: number | string | null;
  model?: string;
  content?: unknown;
  metadata?: object;
  recipient?: string;
};

/** The start of the times in made-up exports, in seconds since 1970. */
export const EXPORTED_AT_S = 1_700_000_000;

/**
 * A conversation in ChatGPT's export format. Messages are named; by default the parent is the previous one, and the
 * time a second later.
 */
export function createChatGpt(id: string, messages: Record<string, MessageInput>, other: object = {}): object {
  const mapping: Record<string, Node> = { root: { id: "root", message: null, parent: null, children: [] } };
  let before = "root";
  let n = 0;
  for (const [name, { role, text = name, parent = before, at, model, content, metadata, recipient }] of Object.entries(
    messages,
  )) {
    n += 1;
    const message = {
      id: name,
      author: { role: role ?? (n % 2 === 1 ? "user" : "assistant"), name: null, metadata: {} },
      create_time: at === undefined ? EXPORTED_AT_S + n : at,
      content: content ?? { content_type: "text", parts: [text] },
      metadata: { ...(model && { model_slug: model }), ...metadata },
      recipient: recipient ?? "all",
    };
    mapping[name] = { id: name, message, parent, children: [] };
    if (parent !== null) mapping[parent]?.children.push(name);
    before = name;
  }
  return {
    title: `Title of ${id}`,
    create_time: EXPORTED_AT_S,
    update_time: EXPORTED_AT_S + n,
    mapping,
    current_node: before,
    conversation_id: id,
    ...other,
  };
}

/** The same in Claude's export format. */
export function createClaude(id: string, texts: readonly string[], other: object = {}): object {
  const at = (n: number) => new Date((EXPORTED_AT_S + n) * 1_000).toISOString();
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
    ...other,
  };
}

type Client = Pick<TestClient, "fetch">;

/** Sends a file as the body. @returns the response. */
export function sendFile(
  parley: Client,
  { access_token: token }: Account,
  source: string,
  body: NonNullable<RequestInit["body"]>,
  headers: Record<string, string> = { "content-type": "application/json" },
): Promise<Response> {
  return parley.fetch(`/api/v1/imports?source=${source}`, { method: "POST", token, body, headers });
}

/** Imports a file, and waits for the end. */
export async function importFile(parley: Client, account: Account, source: string, file: unknown): Promise<Import> {
  const body = typeof file === "string" ? file : JSON.stringify(file);
  const response = await sendFile(parley, account, source, body);
  if (response.status !== 202) throw new Error(`import: ${response.status} ${await response.text()}`);
  return waitForImport(parley, account, ((await response.json()) as Import).id);
}

/** The import once it has ended. */
export async function waitForImport(parley: Client, { access_token: token }: Account, id: string): Promise<Import> {
  for (;;) {
    const response = await parley.fetch(`/api/v1/imports/${id}`, { token });
    // The database may be unavailable for a moment.
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
