import type { Fault } from "./scripts.ts";

type Answer = {
  model: string;
  firstWord: number;
  words: number;
  wordDelayMs: number;
  fault: Fault | undefined;
  signal: AbortSignal;
};

const CREATED_S = 1_760_000_000;
/** Time for the written data to be flushed before the connection is reset. */
const FLUSH_MS = 20;

const encoder = new TextEncoder();

/** Creates a response body: server-sent events in OpenAI's format. */
export function createAnswerStream(answer: Answer): ReadableStream<Uint8Array> {
  return new ReadableStream({
    async start(controller) {
      try {
        const ending = await writeAnswer(answer, (data) => controller.enqueue(encoder.encode(`data: ${data}\n\n`)));
        if (ending === "close") controller.close();
        // `error()` resets the connection. With undefined, Bun doesn't print an error.
        else controller.error(undefined);
      } catch {
        // The client closed the connection.
      }
    },
  });
}

async function writeAnswer(answer: Answer, send: (data: string) => void): Promise<"close" | "reset"> {
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
  if (fault?.kind === "hang") return waitForAbort(signal);
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
  const wordsWritten = Math.max(0, words - firstWord + 1);
  sendChunk({ delta: {}, finish_reason: "stop" });
  sendChunk(null, { prompt_tokens: 10, completion_tokens: wordsWritten, total_tokens: 10 + wordsWritten });
  send("[DONE]");
  return "close";
}

function waitForAbort(signal: AbortSignal): Promise<"reset"> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve("reset");
    else signal.addEventListener("abort", () => resolve("reset"), { once: true });
  });
}
