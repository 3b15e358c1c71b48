/** An error response. */
export type Failure = { status: number; body: unknown };

/** The token count that Parley should find in the answer. */
export type TokenCount = { input: number; output: number; cached?: number; reasoning?: number };

/** The behavior of one kind of server, including its differences from OpenAI. Each profile cites its sources. */
export type ServerProfile = {
  /** The heading of the server's recipe in docs/providers.md, and the index of its code block. The default is 0. */
  recipe: { heading: string; block?: number };
  /** The path of the completions endpoint, including the query. */
  path: string;
  /** The header for the key and the prefix of its value, or null if no key is needed. */
  credential: { field: string; scheme: string } | null;
  wrongKey?: Failure;
  wrongPath: Failure;
  unknownModel: Failure;
  /** Returns the error response if the server rejects the body. */
  findRejection?(body: Record<string, unknown>): Failure | null;
  /** Returns the server-sent events of an answer. */
  streamAnswer(model: string, pieces: readonly string[]): string[];
  tokenCount: TokenCount;
  /** Returns an error event in this server's format. */
  formatStreamError(model: string): string;
};

export const formatEvent = (value: unknown): string =>
  `data: ${typeof value === "string" ? value : JSON.stringify(value)}\n\n`;

export const DONE = formatEvent("[DONE]");

type Fields = Record<string, unknown>;

/** Formats a completion chunk. `extraFields` adds to or replaces OpenAI's fields. */
export const formatChunk = (model: string, choices: Fields[], extraFields: Fields = {}): string =>
  formatEvent({
    id: "chatcmpl-1",
    object: "chat.completion.chunk",
    created: 1_760_000_000,
    model,
    choices,
    ...extraFields,
  });

export const createChoice = (delta: Fields, finish_reason: string | null = null, extraFields: Fields = {}): Fields => ({
  index: 0,
  delta,
  finish_reason,
  ...extraFields,
});

export const formatUsage = ({ input, output }: TokenCount): Fields => ({
  prompt_tokens: input,
  completion_tokens: output,
  total_tokens: input + output,
});

/** Formats a chunk for each piece of text. */
export const formatTextChunks = (model: string, pieces: readonly string[], extraFields: Fields = {}): string[] =>
  pieces.map((content) => formatChunk(model, [createChoice({ content })], extraFields));
