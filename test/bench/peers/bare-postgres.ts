// The baseline of the runtime and the database driver: returns a row as JSON, without authentication.
import postgres from "postgres";

const sql = postgres(process.env.DATABASE_URL ?? "", { max: Number(process.env.POOL_SIZE) });
const userId = process.env.USER_ID ?? "";

Bun.serve({
  hostname: process.env.HOST ?? "127.0.0.1",
  port: Number(process.env.PORT),
  async fetch(request) {
    if (request.url.endsWith("/ready")) return new Response("ready");
    const [row] = await sql<{ preferences: object }[]>`select preferences from users where id = ${userId}`;
    return Response.json(row?.preferences);
  },
});
process.on("SIGTERM", () => process.exit(0));
