// A typical chat server: Socket.IO on Node with `pg`. Each message is stored in its own transaction. After the commit,
// the message is emitted to the room and acknowledged.
import { randomUUID } from "node:crypto";
import { createServer } from "node:http";
import { createAdapter } from "@socket.io/redis-adapter";
import { Redis } from "ioredis";
import pg from "pg";
import { Server } from "socket.io";

const { DATABASE_URL, POOL_SIZE, HOST, PORT, REDIS_URL } = process.env;
const pool = new pg.Pool({ connectionString: DATABASE_URL, max: Number(POOL_SIZE) });
await pool.query(`
  create table if not exists conversations (id uuid primary key, last_seq bigint not null default 0,
    updated_at timestamptz not null default now());
  create table if not exists messages (id uuid primary key, conversation_id uuid not null references conversations,
    seq bigint not null, author_id uuid, content text not null, client_message_id text,
    created_at timestamptz not null default now());
  create unique index if not exists messages_seq on messages (conversation_id, seq);
  create unique index if not exists messages_client_id on messages (conversation_id, author_id, client_message_id)`);

const authorId = randomUUID();

async function storeMessage({ conversation_id, client_message_id, content }) {
  const id = randomUUID();
  const client = await pool.connect();
  try {
    await client.query("begin");
    const updateResult = await client.query({
      name: "count",
      text: "update conversations set last_seq = last_seq + 1, updated_at = now() where id = $1 returning last_seq",
      values: [conversation_id],
    });
    const seq = Number(updateResult.rows[0].last_seq);
    const insertResult = await client.query({
      name: "store",
      text: `insert into messages (id, conversation_id, seq, author_id, content, client_message_id)
             values ($1, $2, $3, $4, $5, $6) returning created_at`,
      values: [id, conversation_id, seq, authorId, content, client_message_id],
    });
    await client.query("commit");
    return { id, conversation_id, seq, author_id: authorId, content, client_message_id, ...insertResult.rows[0] };
  } catch (error) {
    await client.query("rollback");
    throw error;
  } finally {
    client.release();
  }
}

const http = createServer((request, response) => {
  response.statusCode = request.url === "/ready" ? 200 : 404;
  response.end();
});
// Several instances exchange messages over Redis.
const adapter = REDIS_URL && createAdapter(new Redis(REDIS_URL), new Redis(REDIS_URL));
const io = new Server(http, { transports: ["websocket"], serveClient: false, ...(adapter && { adapter }) });

io.on("connection", (socket) => {
  socket.on("subscribe", async (conversationId, ack) => {
    await pool.query("insert into conversations (id) values ($1) on conflict do nothing", [conversationId]);
    await socket.join(conversationId);
    ack({ ok: true });
  });
  socket.on("send", async (input, ack) => {
    const message = await storeMessage(input);
    io.to(message.conversation_id).emit("message", message);
    ack({ message });
  });
});

process.on("SIGTERM", () => process.exit(0));
http.listen(Number(PORT), HOST);
