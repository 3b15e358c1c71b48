/** An error response of a server. */
export type Failure = { status: number; body: unknown };

/** The server's token count, as Parley should read it. */
export type Counted = { input: number; output: number; cached?: number; reasoning?: number };

/** How one kind of server differs from OpenAI. Each quirk names its source. */
export type Quirks = {
  /** The recipe in docs/providers.md: its heading, and the number of its block. */
  recipe: { heading: string; block?: number };
  /** The path of completions, with the query. */
  path: string;
  /** The header field of the key, and the prefix of its value; null: no key is required, and none may be sent. */
  credential: { field: string; scheme: string } | null;
  wrongKey?: Failure;
  wrongPath: Failure;
  unknownModel: Failure;
  /** What it refuses in a request that Parley may send. */
  refuse?(body: Record<string, unknown>): Failure | null;
  /** The answer, as the pieces of the body. */
  stream(model: string, pieces: readonly string[]): string[];
  counted: Counted;
  /** An error inside the stream after the first piece, in this server's format. */
  breakOff(model: string): string;
};

export const data = (value: unknown): string =>
  `data: ${typeof value === "string" ? value : JSON.stringify(value)}\n\n`;

export const DONE = data("[DONE]");

type Fields = Record<string, unknown>;

/** A chunk of a completion; `more` has the differences from OpenAI's. */
export const chunk = (model: string, choices: Fields[], more: Fields = {}): string =>
  data({ id: "chatcmpl-1", object: "chat.completion.chunk", created: 1_760_000_000, model, choices, ...more });

export const delta = (content: Fields, finish_reason: string | null = null, more: Fields = {}): Fields => ({
  index: 0,
  delta: content,
  finish_reason,
  ...more,
});

export const usageOf = ({ input, output }: Counted): Fields => ({
  prompt_tokens: input,
  completion_tokens: output,
  total_tokens: input + output,
});

/** Chunks of the text, one per piece. */
export const textChunks = (model: string, pieces: readonly string[], more: Fields = {}): string[] =>
  pieces.map((content) => chunk(model, [delta({ content })], more));
