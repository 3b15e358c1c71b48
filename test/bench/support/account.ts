export const PASSWORD = "correct horse battery staple";

export type BenchAccount = { userId: string; email: string; token: string; createConversation(): Promise<string> };

/** A new user of Parley, by its REST API. */
export async function register(url: string): Promise<BenchAccount> {
  const post = async (path: string, body: object, headers: Record<string, string> = {}) => {
    const response = await fetch(`${url}/api/v1${path}`, {
      method: "POST",
      headers: { "content-type": "application/json", ...headers },
      body: JSON.stringify(body),
    });
    if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
    return (await response.json()) as Record<string, unknown>;
  };
  const email = `${Bun.randomUUIDv7()}@example.com`;
  const { access_token, user } = await post("/auth/register", { email, password: PASSWORD, display_name: "Load" });
  const token = String(access_token);
  return {
    userId: (user as { id: string }).id,
    email,
    token,

    /** In which no model answers. */
    async createConversation() {
      const { id } = await post(
        "/conversations",
        { kind: "group", reply_mode: "never" },
        { authorization: `Bearer ${token}` },
      );
      return String(id);
    },
  };
}
