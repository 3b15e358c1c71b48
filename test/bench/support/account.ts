export const PASSWORD = "correct horse battery staple";

export type BenchAccount = { userId: string; email: string; token: string; createConversation(): Promise<string> };

/** Registers a user over REST. */
export async function registerAccount(url: string): Promise<BenchAccount> {
  const postJson = createPostFunction(url);
  const email = `${Bun.randomUUIDv7()}@example.com`;
  const { access_token, user } = await postJson("/auth/register", { email, password: PASSWORD, display_name: "Load" });
  const token = String(access_token);
  return {
    userId: (user as { id: string }).id,
    email,
    token,

    /** Creates a conversation that no model answers in. */
    async createConversation() {
      const { id } = await postJson(
        "/conversations",
        { kind: "group", reply_mode: "never" },
        { authorization: `Bearer ${token}` },
      );
      return String(id);
    },
  };
}

/** Logs in a user with the bench's password, and returns the access token. */
export async function logIn(url: string, email: string): Promise<string> {
  return String((await createPostFunction(url)("/auth/login", { email, password: PASSWORD })).access_token);
}

const createPostFunction =
  (url: string) =>
  async (path: string, body: object, headers: Record<string, string> = {}): Promise<Record<string, unknown>> => {
    const response = await fetch(`${url}/api/v1${path}`, {
      method: "POST",
      headers: { "content-type": "application/json", ...headers },
      body: JSON.stringify(body),
    });
    if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
    return (await response.json()) as Record<string, unknown>;
  };
