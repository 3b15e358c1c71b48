// Usage: `lock-holder.ts TARGET CONVERSATION_ID CLIENT_TIMEOUTS [result]`
// Locks a conversation, prints a line, and holds the lock until the transaction ends.
// With `result`, prints the line before locking, and holds the lock while receiving a large result.
import { openDatabase } from "../../src/db/client.ts";

const [target = "", conversationId = "", clientTimeouts = "", mode] = process.argv.slice(2);
const database = openDatabase({ target: JSON.parse(target), poolSize: 1, clientTimeouts: JSON.parse(clientTimeouts) });
if (mode === "result") {
  await database`select 1`;
  console.log("ready");
  await database`
    select pg_sleep(0.5), repeat('x', 8000000) from conversations where id = ${conversationId} for update`;
} else
  await database.begin(async (sql) => {
    await sql`select 1 from conversations where id = ${conversationId} for update`;
    console.log("locked");
    await Bun.sleep(60_000);
  });
