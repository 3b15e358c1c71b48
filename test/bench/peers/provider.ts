// A mock model server with hardly any overhead: Chat Completions as a stream, one piece at a time, written
// directly to the connection. The model's name has the parameters: `PIECES-DELAYMS`, as in `50-20`. `GET /distances` returns
// the intervals between pieces sent since the last request, because timers are late on a busy machine.
import type { Socket } from "bun";
import { pieceText, readModel } from "../support/pieces.ts";
import { quantile } from "../support/quantile.ts";

type State = { text: string; timer: Timer | undefined };

const chunk = (delta: object, finishReason: string | null = null, usage: object | null = null): string =>
  frame(
    `data: ${JSON.stringify({
      id: "chatcmpl-bench",
      object: "chat.completion.chunk",
      created: 1_760_000_000,
      model: "bench",
      choices: usage ? [] : [{ index: 0, delta, finish_reason: finishReason }],
      usage,
    })}\n\n`,
  );
const frame = (text: string): string => `${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`;

const HEAD =
  "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\nconnection: keep-alive\r\n\r\n";
const OPENING = HEAD + chunk({ role: "assistant", content: "" });
const USAGE = { prompt_tokens: 20, completion_tokens: 50, total_tokens: 70 };
const ENDING = `${chunk({}, "stop")}${chunk({}, null, USAGE)}${frame("data: [DONE]\n\n")}0\r\n\r\n`;

/** Created when first sent; the first one is piece 1. */
const chunks: string[] = [];
let distancesMs: number[] = [];

function findChunk(n: number): string {
  chunks[n - 1] ??= chunk({ content: pieceText(n) });
  return chunks[n - 1] ?? "";
}

function answer(socket: Socket<State>, model: string): void {
  const { pieces, delayMs } = readModel(model);
  let sent = 1;
  let sentAtMs = performance.now();
  write(socket, OPENING + findChunk(sent));
  socket.data.timer = setInterval(() => {
    if (sent === pieces) {
      clearInterval(socket.data.timer);
      write(socket, ENDING);
      return;
    }
    const nowMs = performance.now();
    distancesMs.push(nowMs - sentAtMs);
    sentAtMs = nowMs;
    sent += 1;
    write(socket, findChunk(sent));
  }, delayMs);
}

function write(socket: Socket<State>, text: string): void {
  const written = socket.write(text);
  // Negative: the reader disconnected. The rest of a partial write would have to wait, and count as lost.
  if (written < 0 || written === text.length) return;
  console.error("A reader is too slow, and its connection's buffer is full.");
  process.exit(1);
}

function takeDistances(): string {
  const taken = distancesMs;
  distancesMs = [];
  return JSON.stringify({ p99Ms: quantile(taken, 0.99) });
}

function respond(socket: Socket<State>, request: string): void {
  const body = request.startsWith("GET /distances") ? takeDistances() : "ok";
  socket.write(`HTTP/1.1 200 OK\r\ncontent-length: ${body.length}\r\n\r\n${body}`);
}

Bun.listen<State>({
  hostname: "127.0.0.1",
  port: Number(process.env.PORT),
  socket: {
    open(socket) {
      socket.data = { text: "", timer: undefined };
    },
    data(socket, bytes) {
      socket.data.text += bytes.toString("latin1");
      const { text } = socket.data;
      const end = text.indexOf("\r\n\r\n");
      if (end < 0) return;
      const length = Number(/content-length: *(\d+)/i.exec(text)?.[1] ?? 0);
      if (text.length < end + 4 + length) return;
      socket.data.text = "";
      if (text.startsWith("GET")) respond(socket, text);
      else answer(socket, /"model":"([^"]+)"/.exec(text)?.[1] ?? "1-0");
    },
    close: ({ data }) => clearInterval(data.timer),
  },
});
