// A process that locks a conversation, says so, and keeps it: `holder.ts TARGET CONVERSATION`.
import { openDatabase } from "../../src/db/client.ts";

const [target = "", conversationId = ""] = process.argv.slice(2);
const database = openDatabase({ target: JSON.parse(target), poolSize: 1 });
await database.begin(async (sql) => {
  await sql`select 1 from conversations where id = ${conversationId} for update`;
  console.log("locked");
  await Bun.sleep(60_000);
});
