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

export type RestClient = ReturnType<typeof createRestClient>;

const REQUEST_TIMEOUT_MS = 20_000;
const PAGE_SIZE = 200;

/** Creates a client for a server's REST API. */
export function createRestClient(url: string) {
  async function request(path: string, { token, method, json }: CallOptions = {}): Promise<RestResponse> {
    const response = await fetch(`${url}${path}`, {
      method: method ?? (json === undefined ? "GET" : "POST"),
      headers: {
        ...(token !== undefined && { authorization: `Bearer ${token}` }),
        ...(json !== undefined && { "content-type": "application/json" }),
      },
      ...(json !== undefined && { body: JSON.stringify(json) }),
      signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
      // Persistent connections are not used, because they break when a server is killed and restarted on the same port.
      keepalive: false,
    });
    const text = await response.text();
    return { status: response.status, body: text === "" ? null : parseBody(text) };
  }

  async function requestAndExpect<T>(status: number, path: string, options?: CallOptions): Promise<T> {
    const response = await request(path, options);
    if (response.status !== status)
      throw new Error(`expected ${status} from ${path}, but got ${response.status}: ${JSON.stringify(response.body)}`);
    return response.body as T;
  }

  /** Fetches all pages of a list that is paginated by `seq`. */
  async function listAll<T extends { seq: number }>({ token }: TestUser, path: string): Promise<T[]> {
    const rows: T[] = [];
    for (;;) {
      const after = rows.at(-1)?.seq ?? 0;
      const { data } = await requestAndExpect<{ data: T[] }>(200, `${path}?after_seq=${after}&limit=${PAGE_SIZE}`, {
        token,
      });
      if (data.length === 0) return rows;
      rows.push(...data);
    }
  }

  return {
    request,

    async register(name: string): Promise<TestUser> {
      const json = { email: `${name}-${createId()}@example.com`, password: createId(), display_name: name };
      type Registered = { user: { id: string }; access_token: string };
      const { user, access_token } = await requestAndExpect<Registered>(201, "/api/v1/auth/register", { json });
      return { id: user.id, token: access_token };
    },

    /** Creates a conversation in which models answer only messages that request an answer. */
    async createConversation(owner: TestUser, members: readonly TestUser[], title: string): Promise<string> {
      const json = { title, kind: "group", reply_mode: "never" };
      const { id } = await requestAndExpect<{ id: string }>(201, "/api/v1/conversations", { token: owner.token, json });
      for (const member of members)
        await requestAndExpect(201, `/api/v1/conversations/${id}/members`, {
          token: owner.token,
          json: { user_id: member.id },
        });
      return id;
    },

    listMessages: (account: TestUser, conversationId: string): Promise<StoredMessage[]> =>
      listAll<StoredMessage>(account, `/api/v1/conversations/${conversationId}/messages`),

    /** Returns the sequence numbers of all durable events of a conversation. */
    async listSeqs(account: TestUser, conversationId: string): Promise<number[]> {
      const events = await listAll<{ seq: number }>(account, `/api/v1/conversations/${conversationId}/events`);
      return events.map(({ seq }) => seq);
    },

    getMessage: ({ token }: TestUser, conversationId: string, messageId: string): Promise<StoredMessage> =>
      requestAndExpect<StoredMessage>(200, `/api/v1/conversations/${conversationId}/messages/${messageId}`, { token }),
  };
}

function parseBody(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
