// A process that locks a conversation, reports it, and holds the lock: `lock-holder.ts TARGET CONVERSATION SILENCE`, until its
// transaction ends. With the further argument `result`, it holds it while receiving a large result, and reports before that.
import { openDatabase } from "../../src/db/client.ts";

const [target = "", conversationId = "", silence = "", how] = process.argv.slice(2);
const database = openDatabase({ target: JSON.parse(target), poolSize: 1, silence: JSON.parse(silence) });
if (how === "result") {
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
