import type { Sql } from "../../db/client.ts";
import type { ToolUser } from "./mcp/identity.ts";

/** Finds a user. Returns null if the user was deleted or disabled. */
export async function findToolUser(sql: Sql, userId: string): Promise<ToolUser | null> {
  const [row] = await sql<ToolUser[]>`select id, email from users where id = ${userId} and disabled_at is null`;
  return row ?? null;
}
