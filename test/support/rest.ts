import type { ProblemBody } from "../../src/http/problem-response.ts";
import type { Account, TestApp } from "./app.ts";

/** A response with its parsed body. */
export type RestResponse<T> = { status: number; headers: Headers; body: T };

export type RestClient = ReturnType<typeof createRestClient>;

/** Creates a client for `/api/v1` with one user's access token. */
export function createRestClient(parley: Pick<TestApp, "fetch">, account: Account) {
  async function request<T>(
    method: string,
    path: string,
    json?: unknown,
    headers?: Record<string, string>,
  ): Promise<RestResponse<T>> {
    const response = await parley.fetch(`/api/v1${path}`, {
      token: account.access_token,
      method,
      ...(json !== undefined && { json }),
      ...(headers && { headers }),
    });
    const text = await response.text();
    return {
      status: response.status,
      headers: response.headers,
      body: (text === "" ? null : JSON.parse(text)) as T,
    };
  }

  return {
    id: account.user.id,
    account,
    request,
    get: <T>(path: string, headers?: Record<string, string>) => request<T>("GET", path, undefined, headers),

    /** Sends a request that should fail. Returns the problem body. @throws Error if the response is not a problem. */
    async requestProblem(method: string, path: string, json?: unknown): Promise<ProblemBody> {
      const { status, headers, body } = await request<ProblemBody>(method, path, json);
      if (headers.get("content-type") !== "application/problem+json" || body.status !== status)
        throw new Error(`${method} ${path} returned ${status} ${JSON.stringify(body)}.`);
      return body;
    },

    /** Fetches all pages of a list. Returns all rows, and the number of rows on each page. */
    async listAll<T>(path: string, limit: number): Promise<{ rows: T[]; pages: number[] }> {
      const rows: T[] = [];
      const pages: number[] = [];
      for (let next: string | null = `${path}${path.includes("?") ? "&" : "?"}limit=${limit}`; next !== null; ) {
        const page: RestResponse<{ data: T[]; next_cursor: string | null }> = await request("GET", next);
        const { status, headers, body } = page;
        if (status !== 200) throw new Error(`${next}: ${status} ${JSON.stringify(body)}`);
        rows.push(...body.data);
        pages.push(body.data.length);
        const link: string | null = /^<\/api\/v1(.*)>; rel="next"$/.exec(headers.get("link") ?? "")?.[1] ?? null;
        if ((link === null) !== (body.next_cursor === null))
          throw new Error("Only one of Link and next_cursor is present.");
        next = link;
      }
      return { rows, pages };
    },
  };
}
