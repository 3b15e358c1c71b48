import { join } from "node:path";
import postgres from "postgres";
import type { AttackRequest, AttackStep } from "../load/attack.ts";
import { PASSWORD, registerAccount } from "./account.ts";

/** An attack. `prepare` runs before the server starts. */
export type Attack = Pick<AttackStep, "requests" | "concurrency" | "total" | "durationMs"> & {
  prepare?(): Promise<void>;
};

const UNREAD_CONVERSATIONS = 200;
const OTHER_CONVERSATIONS = 300;
const MESSAGES = 1_000;
const MEMBERS = 5_000;
const LOOP_MS = 6_000;
const PREFERENCES_CHARS = 16_000;
const TEMPLATE_VARIABLES = 1_880;
/** The longest possible message. Each character has three bytes. */
const CONTENT_CHARS = 200_000;

export type AttackData = {
  token: string;
  promptId: string;
  /** A conversation to send messages to. */
  conversationId: string;
  /** A conversation with many members. */
  largeConversationId: string;
  /** A conversation with the attacker's messages. */
  ownConversationId: string;
  /** Replaces `ownConversationId` with a new conversation. Returns the paths of its messages. */
  recreateOwnConversation(): Promise<string[]>;
  close(): Promise<void>;
};

/** Registers the attacker, and stores the data that the attacks need, such as another user's 500,000 messages. */
export async function setUpAttacks(url: string, databaseUrl: string): Promise<AttackData> {
  const sql = postgres(databaseUrl, { max: 1, onnotice: () => {} });
  const readScript = (name: string) => Bun.file(join(import.meta.dir, name)).text();
  await sql.unsafe(await readScript("attacks-data.sql"));
  const attacker = await registerAccount(url);
  const otherUser = await registerAccount(url);
  const fillConversation = async (author: string, member: string | null, count: number): Promise<string> => {
    const id = Bun.randomUUIDv7();
    await sql`select bench.fill_conversation(${id}, ${author}, ${member}, ${count})`;
    return id;
  };
  for (let n = 0; n < UNREAD_CONVERSATIONS; n += 1) await fillConversation(otherUser.userId, attacker.userId, MESSAGES);
  for (let n = 0; n < OTHER_CONVERSATIONS; n += 1) await fillConversation(otherUser.userId, null, MESSAGES);
  const largeConversationId = await attacker.createConversation();
  await sql`select bench.fill_members(${largeConversationId}, ${MEMBERS})`;
  await sql.unsafe(await readScript("derived-data.sql"));
  await sql`vacuum (analyze)`;

  const sendRequest = async (method: "PUT" | "POST", path: string, body: object) => {
    const response = await fetch(`${url}/api/v1${path}`, {
      method,
      headers: { authorization: `Bearer ${attacker.token}`, "content-type": "application/json" },
      body: JSON.stringify(body),
    });
    if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
    return (await response.json()) as { id: string };
  };
  await sendRequest("PUT", "/me/preferences", { a: "x".repeat(PREFERENCES_CHARS) });
  const template = "{{preferences.a}}".repeat(TEMPLATE_VARIABLES);
  const { id: promptId } = await sendRequest("POST", "/prompts", { name: "Long", template });
  const data: AttackData = {
    token: attacker.token,
    promptId,
    conversationId: await attacker.createConversation(),
    largeConversationId,
    ownConversationId: "",
    async recreateOwnConversation() {
      data.ownConversationId = await fillConversation(attacker.userId, null, MESSAGES);
      await sql.unsafe(await readScript("derived-data.sql"));
      const rows = await sql<
        { id: string }[]
      >`select id from messages where conversation_id = ${data.ownConversationId} order by seq`;
      return rows.map(({ id }) => `/conversations/${data.ownConversationId}/messages/${id}`);
    },
    close: () => sql.end(),
  };
  return data;
}

/** Creates the attacks, by name. */
export function createAttacks(data: AttackData): Record<string, Attack> {
  const createLoop = (concurrency: number, ...requests: AttackRequest[]): Attack => ({
    requests,
    concurrency,
    durationMs: LOOP_MS,
  });
  const createBurst = (times: number, request: AttackRequest): Attack => ({
    requests: [request],
    concurrency: times,
    total: times,
  });
  const createGet = (path: string): AttackRequest => ({ method: "GET", path });
  const createPost = (path: string, body: object): AttackRequest => ({
    method: "POST",
    path,
    body: JSON.stringify(body),
  });
  const createOwnMessagesAttack = (method: "PATCH" | "DELETE", body?: object): Attack => {
    const attack = createLoop(16);
    return {
      ...attack,
      async prepare() {
        const paths = await data.recreateOwnConversation();
        attack.requests.push(...paths.map((path) => ({ method, path, ...(body && { body: JSON.stringify(body) }) })));
      },
    };
  };
  const messagesPath = `/conversations/${data.conversationId}/messages`;
  const largeMessage = { content: createLargeText(), reply: false };
  return {
    nothing: createLoop(0),
    "list of 200 conversations, 16 at once": createLoop(16, createGet("/conversations?limit=200")),
    "50 previews of a large prompt": createBurst(50, { method: "POST", path: `/prompts/${data.promptId}/preview` }),
    "export, 8 at once": createLoop(8, createGet("/me/export")),
    "130 password changes": createBurst(
      130,
      createPost("/me/password", { current_password: PASSWORD, new_password: PASSWORD }),
    ),
    "130 logins with unknown emails": createBurst(
      130,
      createPost("/auth/login", { email: "nobody-{n}@example.com", password: PASSWORD }),
    ),
    "100 messages of 600 kB in flight": createLoop(100, createPost(messagesPath, largeMessage)),
    "edits, 16 at once": createOwnMessagesAttack("PATCH", { content: "Edited {n}." }),
    "deletions, 16 at once": createOwnMessagesAttack("DELETE"),
    "pages of 5,000 members, 16 at once": createLoop(
      16,
      createGet(`/conversations/${data.largeConversationId}/members?limit=200`),
    ),
  };
}

/** Creates a string of random Chinese characters, which compresses poorly. */
function createLargeText(): string {
  let text = "";
  let state = 1;
  while (text.length < CONTENT_CHARS) {
    state = (state * 48_271) % 2_147_483_647;
    text += String.fromCharCode(0x4e00 + (state % 20_000));
  }
  return text;
}
