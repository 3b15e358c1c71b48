import { Tokenizer, TokenParser, TokenType } from "@streamparser/json";
import { ImportError } from "./import-error.ts";

type OnValue = Parameters<TokenParser["onValue"]>[0];
type Token = Parameters<TokenParser["write"]>[0] & { offset?: number };

/** Maximum JSON bytes of one value: a message with all its parts. A larger one makes its conversation unreadable. */
const VALUE_BYTES_MAX = 8 * 1024 * 1024;
/** Maximum length of one text, which is in memory before it can be skipped. */
const TOKEN_BYTES_MAX = 32 * 1024 * 1024;

/** The only conversation fields that are kept until its end. */
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
  /** A message of the current conversation. */
  onNode(field: string, key: string, value: unknown): void;
  /** The end of a conversation, with its other fields. */
  onConversation(value: unknown): void;
  /** The conversation contains an oversized value and is skipped. */
  onOversized(): void;
};

/** Reads a file of conversations as a stream. */
export type JsonReader = {
  /** @throws ImportError if it isn't JSON. */
  write(bytes: Uint8Array): void;
  /** @throws ImportError if it is incomplete. */
  end(): void;
  /** Whether it is a list, possibly empty. */
  isList(): boolean;
};

/**
 * The file may be a list of conversations, an object with them as `conversations` or under any name, or one conversation.
 * Only one message is in memory at a time; the handlers keep what they need of it.
 */
export function createJsonReader(handlers: JsonHandlers): JsonReader {
  const tokenizer = new Tokenizer();
  let parser = createParser();
  let depth = 0;
  let isList = false;
  let isSkipping = false;
  let bytes = 0;
  /** The error thrown by a handler. */
  let fault: { error: unknown } | undefined;
  /** Start of the last token, named in errors. */
  let offset = 0;
  /** Byte offsets of the last token, and of the last value passed on. */
  let atToken = 0;
  let atValue = 0;

  function createParser(): TokenParser {
    const created = new TokenParser({ paths, keepStack: false });
    created.onValue = handOn;
    return created;
  }

  function onToken(token: Token): void {
    atToken = bytes;
    offset = token.offset ?? offset;
    if (depth === 0) isList = token.token === TokenType.LEFT_BRACKET;
    if (token.token === TokenType.LEFT_BRACE || token.token === TokenType.LEFT_BRACKET) depth += 1;
    else if (token.token === TokenType.RIGHT_BRACE || token.token === TokenType.RIGHT_BRACKET) depth -= 1;
    if (!isSkipping) parser.write(token);
    else if (depth === 1) resume();
  }

  /** The skipped conversation has ended: continues in a list, as after any other item. */
  function resume(): void {
    isSkipping = false;
    atValue = bytes;
    parser = createParser();
    parser.onValue = () => {};
    parser.write({ token: TokenType.LEFT_BRACKET, value: "[" });
    parser.write({ token: TokenType.NULL, value: null });
    parser.onValue = handOn;
    handlers.onOversized();
  }

  function checkSize(): void {
    if (bytes - atToken > TOKEN_BYTES_MAX)
      throw new ImportError("too_large", `The text that begins near byte ${offset} is too large.`);
    if (isSkipping || bytes - atValue <= VALUE_BYTES_MAX) return;
    if (!isList || depth <= 1)
      throw new ImportError("too_large", `The value that begins before byte ${offset} is too large.`);
    isSkipping = true;
  }

  tokenizer.onToken = onToken;

  const explain = (): ImportError =>
    new ImportError("malformed", `The file isn't valid JSON: it is truncated or has an error near byte ${offset}.`);

  /** The parser reports every error thrown in here as if the file were invalid. */
  function handOn(found: OnValue): void {
    try {
      if (onValue(found, handlers)) atValue = bytes;
    } catch (error) {
      fault = { error };
      throw error;
    }
  }

  return {
    write(chunk) {
      bytes += chunk.byteLength;
      try {
        tokenizer.write(chunk);
      } catch {
        throw fault ? fault.error : explain();
      }
      checkSize();
    },

    end() {
      try {
        if (!tokenizer.isEnded) tokenizer.end();
        if (!parser.isEnded) parser.end();
      } catch {
        throw fault ? fault.error : explain();
      }
    },

    isList: () => isList,
  };
}

/** @returns whether its parts are no longer needed. */
function onValue({ value, key, parent, stack }: OnValue, handlers: JsonHandlers): boolean {
  if (stack.length === 0) {
    if (isConversation(value)) handlers.onConversation(value);
    return true;
  }
  const field = String(stack.at(-1)?.key ?? "");
  const isInNodes = stack.length > 1 && nodeFields.includes(field);
  if (isInNodes) {
    handlers.onNode(field, String(key), value);
    forget(parent, key);
    forgetUnknown(stack.at(-1)?.value);
    return true;
  }
  const isItem = Array.isArray(parent);
  if (isItem || isConversation(value)) {
    // The list of a wrapping object also ends as a value; its items are already handled.
    if (isItem || !nodeFields.includes(String(key))) handlers.onConversation(value);
    forget(parent, key);
    return true;
  }
  forgetUnknown(parent);
  return false;
}

/** Whether it has messages, judged by the field that contains them. */
const isConversation = (value: unknown): boolean =>
  typeof value === "object" && value !== null && nodeFields.some((field) => Object.hasOwn(value, field));

function forget(parent: unknown, key: unknown): void {
  if (Array.isArray(parent)) parent.length -= 1;
  else if (typeof parent === "object" && parent !== null) Reflect.deleteProperty(parent, String(key));
}

function forgetUnknown(value: unknown): void {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return;
  for (const name of Object.keys(value)) if (!retainedFields.has(name)) Reflect.deleteProperty(value, name);
}
