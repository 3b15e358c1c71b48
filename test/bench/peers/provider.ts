// A stand-in for a model's server that costs next to nothing: Chat Completions as a stream, one piece at a time, written
// straight to the connection. The model's name says how: `PIECES-DELAYMS`, as in `50-20`.
import type { Socket } from "bun";

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
const PIECE = chunk({ content: "a word or two " });
const USAGE = { prompt_tokens: 20, completion_tokens: 50, total_tokens: 70 };
const ENDING = `${chunk({}, "stop")}${chunk({}, null, USAGE)}${frame("data: [DONE]\n\n")}0\r\n\r\n`;

function answer(socket: Socket<State>, model: string): void {
  const [pieces = 1, delayMs = 0] = model.split("-").map(Number);
  let left = pieces - 1;
  socket.write(OPENING + PIECE);
  socket.data.timer = setInterval(() => {
    left -= 1;
    if (left >= 0) return void socket.write(PIECE);
    clearInterval(socket.data.timer);
    socket.write(ENDING);
  }, delayMs);
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
      if (text.startsWith("GET")) socket.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
      else answer(socket, /"model":"([^"]+)"/.exec(text)?.[1] ?? "1-0");
    },
    close: ({ data }) => clearInterval(data.timer),
  },
});
