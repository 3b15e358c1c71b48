import { createId } from "../../lib/id.ts";

export type TestUser = { id: string; token: string };

/** The fields of a message that the checks use. */
export type StoredMessage = {
  id: string;
  seq: number;
  role: string;
  content: string;
  status: string;
  model: string | null;
  finish_reason: string | null;
  client_message_id: string | null;
  parent_id: string | null;
};

type CallOptions = { token?: string; method?: string; json?: unknown };
type RestResponse = { status: number; body: unknown };

export type Rest = ReturnType<typeof createRest>;

const REQUEST_TIMEOUT_MS = 20_000;
const PAGE_ROWS = 200;

/** Creates a client for a server's REST API. */
export function createRest(url: string) {
  async function call(path: string, { token, method, json }: CallOptions = {}): Promise<RestResponse> {
    const response = await fetch(`${url}${path}`, {
      method: method ?? (json === undefined ? "GET" : "POST"),
      headers: {
        ...(token !== undefined && { authorization: `Bearer ${token}` }),
        ...(json !== undefined && { "content-type": "application/json" }),
      },
      ...(json !== undefined && { body: JSON.stringify(json) }),
      signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
      // Servers are killed and restarted on the same port, so a kept-alive connection would be dead.
      keepalive: false,
    });
    const text = await response.text();
    return { status: response.status, body: text === "" ? null : parse(text) };
  }

  async function expectStatus<T>(status: number, path: string, options?: CallOptions): Promise<T> {
    const answer = await call(path, options);
    if (answer.status !== status)
      throw new Error(`expected ${status} from ${path}, but got ${answer.status}: ${JSON.stringify(answer.body)}`);
    return answer.body as T;
  }

  /** Reads all pages of a list that is paginated by `seq`. */
  async function list<T extends { seq: number }>({ token }: TestUser, path: string): Promise<T[]> {
    const rows: T[] = [];
    for (;;) {
      const after = rows.at(-1)?.seq ?? 0;
      const { data } = await expectStatus<{ data: T[] }>(200, `${path}?after_seq=${after}&limit=${PAGE_ROWS}`, {
        token,
      });
      if (data.length === 0) return rows;
      rows.push(...data);
    }
  }

  return {
    call,

    async register(name: string): Promise<TestUser> {
      const json = { email: `${name}-${createId()}@example.com`, password: createId(), display_name: name };
      type Registered = { user: { id: string }; access_token: string };
      const { user, access_token } = await expectStatus<Registered>(201, "/api/v1/auth/register", { json });
      return { id: user.id, token: access_token };
    },

    /** Creates a conversation in which models answer only if a message requests it. */
    async createConversation(owner: TestUser, members: readonly TestUser[], title: string): Promise<string> {
      const json = { title, kind: "group", reply_mode: "never" };
      const { id } = await expectStatus<{ id: string }>(201, "/api/v1/conversations", { token: owner.token, json });
      for (const member of members)
        await expectStatus(201, `/api/v1/conversations/${id}/members`, {
          token: owner.token,
          json: { user_id: member.id },
        });
      return id;
    },

    listMessages: (account: TestUser, conversationId: string): Promise<StoredMessage[]> =>
      list<StoredMessage>(account, `/api/v1/conversations/${conversationId}/messages`),

    /** Returns the sequence numbers of all durable events of a conversation. */
    async listSeqs(account: TestUser, conversationId: string): Promise<number[]> {
      const events = await list<{ seq: number }>(account, `/api/v1/conversations/${conversationId}/events`);
      return events.map(({ seq }) => seq);
    },

    getMessage: ({ token }: TestUser, conversationId: string, messageId: string): Promise<StoredMessage> =>
      expectStatus<StoredMessage>(200, `/api/v1/conversations/${conversationId}/messages/${messageId}`, { token }),
  };
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
