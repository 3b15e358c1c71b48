import { join } from "node:path";
import postgres from "postgres";
import type { AttackRequest, AttackStep } from "../load/attack.ts";
import { PASSWORD, register } from "./account.ts";

/** The attacker's requests; `prepare` runs before the server starts. */
export type Attack = Pick<AttackStep, "requests" | "atOnce" | "total" | "durationMs"> & { prepare?(): Promise<void> };

const UNREAD_CONVERSATIONS = 200;
const OTHER_CONVERSATIONS = 300;
const MESSAGES = 1_000;
const MEMBERS = 5_000;
const LOOP_MS = 6_000;
const PREFERENCES_CHARS = 16_000;
const TEMPLATE_VARIABLES = 1_880;
/** Three bytes each: the longest possible message. */
const CONTENT_CHARS = 200_000;

export type AttackData = {
  token: string;
  promptId: string;
  /** The attacker's conversations: one to write in, one with own messages, one with many members. */
  conversationId: string;
  crowdId: string;
  ownId: string;
  /** Recreates the conversation with own messages. */
  refill(): Promise<string[]>;
  end(): Promise<void>;
};

/** Registers the attacker, and stores the data that the attacks need, such as 500,000 messages of another user. */
export async function setUpAttacks(url: string, databaseUrl: string): Promise<AttackData> {
  const sql = postgres(databaseUrl, { max: 1, onnotice: () => {} });
  const readScript = (name: string) => Bun.file(join(import.meta.dir, name)).text();
  await sql.unsafe(await readScript("attacks-data.sql"));
  const attacker = await register(url);
  const otherUser = await register(url);
  const fill = async (author: string, member: string | null, count: number): Promise<string> => {
    const id = Bun.randomUUIDv7();
    await sql`select bench.fill_conversation(${id}, ${author}, ${member}, ${count})`;
    return id;
  };
  for (let n = 0; n < UNREAD_CONVERSATIONS; n += 1) await fill(otherUser.userId, attacker.userId, MESSAGES);
  for (let n = 0; n < OTHER_CONVERSATIONS; n += 1) await fill(otherUser.userId, null, MESSAGES);
  const crowdId = await attacker.createConversation();
  await sql`select bench.fill_members(${crowdId}, ${MEMBERS})`;
  await sql.unsafe(await readScript("derived-data.sql"));
  await sql`vacuum (analyze)`;

  const send = async (method: "PUT" | "POST", path: string, body: object) => {
    const response = await fetch(`${url}/api/v1${path}`, {
      method,
      headers: { authorization: `Bearer ${attacker.token}`, "content-type": "application/json" },
      body: JSON.stringify(body),
    });
    if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
    return (await response.json()) as { id: string };
  };
  await send("PUT", "/me/preferences", { a: "x".repeat(PREFERENCES_CHARS) });
  const template = "{{preferences.a}}".repeat(TEMPLATE_VARIABLES);
  const { id: promptId } = await send("POST", "/prompts", { name: "Long", template });
  const data: AttackData = {
    token: attacker.token,
    promptId,
    conversationId: await attacker.createConversation(),
    crowdId,
    ownId: "",
    async refill() {
      data.ownId = await fill(attacker.userId, null, MESSAGES);
      await sql.unsafe(await readScript("derived-data.sql"));
      const rows = await sql<
        { id: string }[]
      >`select id from messages where conversation_id = ${data.ownId} order by seq`;
      return rows.map(({ id }) => `/conversations/${data.ownId}/messages/${id}`);
    },
    end: () => sql.end(),
  };
  return data;
}

/** Each attack by its name. */
export function createAttacks(data: AttackData): Record<string, Attack> {
  const loop = (atOnce: number, ...requests: AttackRequest[]): Attack => ({ requests, atOnce, durationMs: LOOP_MS });
  const once = (times: number, request: AttackRequest): Attack => ({
    requests: [request],
    atOnce: times,
    total: times,
  });
  const get = (path: string): AttackRequest => ({ method: "GET", path });
  const post = (path: string, body: object): AttackRequest => ({ method: "POST", path, body: JSON.stringify(body) });
  const onOwn = (method: "PATCH" | "DELETE", body?: object): Attack => {
    const attack = loop(16);
    return {
      ...attack,
      async prepare() {
        const paths = await data.refill();
        attack.requests.push(...paths.map((path) => ({ method, path, ...(body && { body: JSON.stringify(body) }) })));
      },
    };
  };
  const messages = `/conversations/${data.conversationId}/messages`;
  const large = { content: writeLargeText(), reply: false };
  return {
    nothing: loop(0),
    "list of 200 conversations, 16 at once": loop(16, get("/conversations?limit=200")),
    "50 previews of a large prompt": once(50, { method: "POST", path: `/prompts/${data.promptId}/preview` }),
    "export, 8 at once": loop(8, get("/me/export")),
    "130 changes of the password": once(
      130,
      post("/me/password", { current_password: PASSWORD, new_password: PASSWORD }),
    ),
    "130 logins of unknown addresses": once(
      130,
      post("/auth/login", { email: "nobody-{n}@example.com", password: PASSWORD }),
    ),
    "100 messages of 600 kB in flight": loop(100, post(messages, large)),
    "edits, 16 at once": onOwn("PATCH", { content: "Edited {n}." }),
    "deletions, 16 at once": onOwn("DELETE"),
    "pages of 5,000 members, 16 at once": loop(16, get(`/conversations/${data.crowdId}/members?limit=200`)),
  };
}

/** Random Chinese characters, which can't be compressed. */
function writeLargeText(): string {
  let text = "";
  let state = 1;
  while (text.length < CONTENT_CHARS) {
    state = (state * 48_271) % 2_147_483_647;
    text += String.fromCharCode(0x4e00 + (state % 20_000));
  }
  return text;
}
