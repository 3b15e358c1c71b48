import { createId } from "../../src/lib/id.ts";

export type Account = {
  user: { id: string; email: string; display_name: string };
  access_token: string;
  refresh_token: string;
};

export type FetchOptions = {
  token?: string;
  method?: string;
  json?: unknown;
  body?: RequestInit["body"];
  headers?: Record<string, string>;
};

export const TEST_PASSWORD = "correct horse battery";

export type TestClient = ReturnType<typeof createTestClient>;

/** Creates an HTTP client for a running Parley server. */
export function createTestClient(url: string, { tls }: { tls?: { ca: string } } = {}) {
  async function request(
    path: string,
    { token, method, json, body, headers = {} }: FetchOptions = {},
  ): Promise<Response> {
    return fetch(`${url}${path}`, {
      method: method ?? (json === undefined ? "GET" : "POST"),
      headers: {
        ...(token !== undefined && { authorization: `Bearer ${token}` }),
        ...(json !== undefined && { "content-type": "application/json" }),
        ...headers,
      },
      ...(json !== undefined && { body: JSON.stringify(json) }),
      ...(body !== undefined && { body }),
      ...(tls && { tls }),
    });
  }

  return {
    url,
    fetch: request,

    /** Registers a user and starts a session. */
    async register(email = `${createId()}@example.com`, display_name = "Somebody"): Promise<Account> {
      const response = await request("/api/v1/auth/register", {
        json: { email, password: TEST_PASSWORD, display_name },
      });
      if (response.status !== 201) throw new Error(`register: ${response.status} ${await response.text()}`);
      return (await response.json()) as Account;
    },
  };
}
