/** An error as a server gives it. */
export type Failure = { status: number; body: unknown };

/** What a server counts, as Parley is to read it. */
export type Counted = { input: number; output: number; cached?: number; reasoning?: number };

/** How one kind of server differs from OpenAI. Each quirk names the place where it is described. */
export type Quirks = {
  /** The recipe in docs/providers.md: its heading, and which block of it. */
  recipe: { heading: string; block?: number };
  /** Where completions are asked for, with the query. */
  path: string;
  /** The header field with the key, and what stands before the key in it; null: no key is wanted, and none may be sent. */
  credential: { field: string; scheme: string } | null;
  wrongKey?: Failure;
  wrongPath: Failure;
  unknownModel: Failure;
  /** What it refuses of a request that Parley may send. */
  refuse?(body: Record<string, unknown>): Failure | null;
  /** The answer, as the pieces of the body that is sent. */
  stream(model: string, pieces: readonly string[]): string[];
  counted: Counted;
  /** An error inside the stream after the first piece, in this server's form. */
  breakOff(model: string): string;
};

export const data = (value: unknown): string =>
  `data: ${typeof value === "string" ? value : JSON.stringify(value)}\n\n`;

export const DONE = data("[DONE]");

type Fields = Record<string, unknown>;

/** A chunk of a completion; what differs from OpenAI's comes by `more`. */
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

/** Chunks of the text, one for each piece. */
export const textChunks = (model: string, pieces: readonly string[], more: Fields = {}): string[] =>
  pieces.map((content) => chunk(model, [delta({ content })], more));
