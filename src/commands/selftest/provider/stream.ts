import type { Fault } from "./scripts.ts";

/** One answer to write. */
type Answer = {
  model: string;
  firstWord: number;
  words: number;
  wordDelayMs: number;
  fault: Fault | undefined;
  signal: AbortSignal;
};

const CREATED_S = 1_760_000_000;
/** What was written has to leave before the connection breaks. */
const FLUSH_MS = 20;

const encoder = new TextEncoder();

/** The body of the response: server-sent events, as OpenAI writes them. */
export function writeAnswerStream(answer: Answer): ReadableStream<Uint8Array> {
  return new ReadableStream({
    async start(controller) {
      try {
        const ending = await write(answer, (data) => controller.enqueue(encoder.encode(`data: ${data}\n\n`)));
        if (ending === "close") controller.close();
        // An error resets the connection; without a value, Bun prints nothing.
        else controller.error(undefined);
      } catch {
        // The client closed the connection.
      }
    },
  });
}

async function write(answer: Answer, send: (data: string) => void): Promise<"close" | "reset"> {
  const { firstWord, words, wordDelayMs, fault, signal } = answer;
  const sendChunk = (choice: object | null, usage: object | null = null) =>
    send(
      JSON.stringify({
        id: "chatcmpl-selftest",
        object: "chat.completion.chunk",
        created: CREATED_S,
        model: answer.model,
        choices: choice === null ? [] : [{ index: 0, finish_reason: null, ...choice }],
        usage,
      }),
    );
  if (fault?.kind === "hang") return untilAborted(signal);
  sendChunk({ delta: { role: "assistant", content: "" } });
  const lastWord = fault !== undefined && "afterWords" in fault ? fault.afterWords : words;
  for (let word = firstWord; word <= lastWord; word += 1) {
    if (signal.aborted) return "reset";
    sendChunk({ delta: { content: word < words ? `w${word} ` : `w${word}` } });
    await Bun.sleep(wordDelayMs);
  }
  if (fault?.kind === "cut") {
    await Bun.sleep(FLUSH_MS);
    return "reset";
  }
  if (fault?.kind === "unfinished") return "close";
  if (fault?.kind === "error_event") {
    send(JSON.stringify({ error: { message: "Scripted failure.", type: "server_error", param: null, code: null } }));
    return "close";
  }
  const written = Math.max(0, words - firstWord + 1);
  sendChunk({ delta: {}, finish_reason: "stop" });
  sendChunk(null, { prompt_tokens: 10, completion_tokens: written, total_tokens: 10 + written });
  send("[DONE]");
  return "close";
}

function untilAborted(signal: AbortSignal): Promise<"reset"> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve("reset");
    else signal.addEventListener("abort", () => resolve("reset"), { once: true });
  });
}
