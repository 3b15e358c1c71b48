import { Tokenizer, TokenParser, TokenType } from "@streamparser/json";
import { ImportError } from "./import-error.ts";

type OnValue = Parameters<TokenParser["onValue"]>[0];
type Token = Parameters<TokenParser["write"]>[0] & { offset?: number };

/** Maximum JSON size of a message with all its parts. With a larger one, the conversation is skipped. */
const VALUE_BYTES_MAX = 8 * 1024 * 1024;
/** Maximum length of one string, which has to be read into memory before it can be skipped. */
const TOKEN_BYTES_MAX = 32 * 1024 * 1024;

/** The only fields of a conversation that are kept until it has been read. */
const retainedFields = new Set([
  "title",
  "name",
  "id",
  "uuid",
  "conversation_id",
  "create_time",
  "update_time",
  "created_at",
  "updated_at",
  "current_node",
  "current_leaf_message_uuid",
  "default_model_slug",
  "model",
  "mapping",
  "chat_messages",
  "conversations",
]);

const nodeFields = ["mapping", "chat_messages"];

const paths = [
  "$",
  "$.*",
  "$.conversations.*",
  ...nodeFields.flatMap((field) => [`$.${field}.*`, `$.*.${field}.*`, `$.conversations.*.${field}.*`]),
];

export type JsonHandlers = {
  /** Called for each message of the current conversation. */
  onNode(field: string, key: string, value: unknown): void;
  /** Called at the end of each conversation, with its other fields. */
  onConversation(value: unknown): void;
  /** Called instead of `onConversation` if the conversation contains an oversized value and was skipped. */
  onOversized(): void;
};

/** Reads a file of conversations as a stream. */
export type JsonReader = {
  /** @throws ImportError if the file isn't JSON. */
  write(bytes: Uint8Array): void;
  /** @throws ImportError if the file is incomplete. */
  end(): void;
  /** Whether the file contains a list, possibly an empty one. */
  isList(): boolean;
};

/**
 * The file may be a list of conversations, an object with them as `conversations` or under any name, or one
 * conversation. Only one message is in memory at a time; handlers must copy what they need.
 */
export function createJsonReader(handlers: JsonHandlers): JsonReader {
  const tokenizer = new Tokenizer();
  let parser = createParser();
  let depth = 0;
  let isList = false;
  let isSkipping = false;
  let bytes = 0;
  /** The error thrown by a handler. */
  let handlerFault: { error: unknown } | undefined;
  /** Start of the last token, for error messages. */
  let offset = 0;
  /** Bytes read at the last token, and at the last value passed to a handler. */
  let tokenStart = 0;
  let valueStart = 0;

  function createParser(): TokenParser {
    const created = new TokenParser({ paths, keepStack: false });
    created.onValue = forwardValue;
    return created;
  }

  function onToken(token: Token): void {
    tokenStart = bytes;
    offset = token.offset ?? offset;
    if (depth === 0) isList = token.token === TokenType.LEFT_BRACKET;
    if (token.token === TokenType.LEFT_BRACE || token.token === TokenType.LEFT_BRACKET) depth += 1;
    else if (token.token === TokenType.RIGHT_BRACE || token.token === TokenType.RIGHT_BRACKET) depth -= 1;
    if (!isSkipping) parser.write(token);
    else if (depth === 1) resume();
  }

  /** Resumes after a skipped conversation, as if the parser had just read another list item. */
  function resume(): void {
    isSkipping = false;
    valueStart = bytes;
    parser = createParser();
    parser.onValue = () => {};
    parser.write({ token: TokenType.LEFT_BRACKET, value: "[" });
    parser.write({ token: TokenType.NULL, value: null });
    parser.onValue = forwardValue;
    handlers.onOversized();
  }

  function checkSizes(): void {
    if (bytes - tokenStart > TOKEN_BYTES_MAX)
      throw new ImportError("too_large", `The text that begins near byte ${offset} is too large.`);
    if (isSkipping || bytes - valueStart <= VALUE_BYTES_MAX) return;
    if (!isList || depth <= 1)
      throw new ImportError("too_large", `The value that begins before byte ${offset} is too large.`);
    isSkipping = true;
  }

  tokenizer.onToken = onToken;

  const createSyntaxError = (): ImportError =>
    new ImportError("malformed", `The file isn't valid JSON: it is truncated or has an error near byte ${offset}.`);

  /** Remembers a handler's error, because the parser reports every error thrown here as invalid JSON. */
  function forwardValue(found: OnValue): void {
    try {
      if (onValue(found, handlers)) valueStart = bytes;
    } catch (error) {
      handlerFault = { error };
      throw error;
    }
  }

  return {
    write(chunk) {
      bytes += chunk.byteLength;
      try {
        tokenizer.write(chunk);
      } catch {
        throw handlerFault ? handlerFault.error : createSyntaxError();
      }
      checkSizes();
    },

    end() {
      try {
        if (!tokenizer.isEnded) tokenizer.end();
        if (!parser.isEnded) parser.end();
      } catch {
        throw handlerFault ? handlerFault.error : createSyntaxError();
      }
    },

    isList: () => isList,
  };
}

/** @returns whether the value has been handled and can be dropped. */
function onValue({ value, key, parent, stack }: OnValue, handlers: JsonHandlers): boolean {
  if (stack.length === 0) {
    if (isConversation(value)) handlers.onConversation(value);
    return true;
  }
  const field = String(stack.at(-1)?.key ?? "");
  const isInNodes = stack.length > 1 && nodeFields.includes(field);
  if (isInNodes) {
    handlers.onNode(field, String(key), value);
    removeFrom(parent, key);
    removeUnusedFields(stack.at(-1)?.value);
    return true;
  }
  const isItem = Array.isArray(parent);
  if (isItem || isConversation(value)) {
    // The list in a wrapping object is itself reported as a value, after its items were handled.
    if (isItem || !nodeFields.includes(String(key))) handlers.onConversation(value);
    removeFrom(parent, key);
    return true;
  }
  removeUnusedFields(parent);
  return false;
}

/** Whether the value has a field for messages. */
const isConversation = (value: unknown): boolean =>
  typeof value === "object" && value !== null && nodeFields.some((field) => Object.hasOwn(value, field));

function removeFrom(parent: unknown, key: unknown): void {
  if (Array.isArray(parent)) parent.length -= 1;
  else if (typeof parent === "object" && parent !== null) Reflect.deleteProperty(parent, String(key));
}

function removeUnusedFields(value: unknown): void {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return;
  for (const name of Object.keys(value)) if (!retainedFields.has(name)) Reflect.deleteProperty(value, name);
}
