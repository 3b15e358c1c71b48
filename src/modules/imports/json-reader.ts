import { Tokenizer, TokenParser, TokenType } from "@streamparser/json";
import { ImportError } from "./import-error.ts";

type ParsedValue = Parameters<TokenParser["onValue"]>[0];
type Token = Parameters<TokenParser["write"]>[0] & { offset?: number };

/** Maximum JSON size of a message. Conversations with larger messages are skipped. */
const VALUE_BYTES_MAX = 8 * 1024 * 1024;
/** Maximum length of a string. Strings must be read into memory, even if they are skipped. */
const TOKEN_BYTES_MAX = 32 * 1024 * 1024;

/** The fields of a conversation that stay in memory until the whole conversation has been read. */
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

/** The JSON paths of the values that the parser reports. */
const valuePaths = [
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
  /** Called instead of `onConversation` if a conversation was skipped because of an oversized value. */
  onOversized(): void;
};

/** A streaming reader for files with conversations. */
export type JsonReader = {
  /** @throws ImportError if the file isn't JSON. */
  write(bytes: Uint8Array): void;
  /** @throws ImportError if the file is incomplete. */
  end(): void;
  /** Returns whether the file contains a list, even an empty one. */
  isList(): boolean;
};

/**
 * Creates a reader. The file may contain a list of conversations, an object with such a list as `conversations`, an object with a
 * conversation in each field, or a single conversation. Only one message is in memory at a time, so handlers must copy what they
 * need.
 */
export function createJsonReader(handlers: JsonHandlers): JsonReader {
  const tokenizer = new Tokenizer();
  let parser = createParser();
  let depth = 0;
  let isList = false;
  let isSkipping = false;
  let bytes = 0;
  /** The error that a handler threw. */
  let handlerFailure: { error: unknown } | undefined;
  /** The last token's position in the file, for error messages. */
  let tokenOffset = 0;
  /** The values that `bytes` had at the last token, and at the last value passed to a handler. */
  let bytesAtToken = 0;
  let bytesAtValue = 0;

  function createParser(): TokenParser {
    const newParser = new TokenParser({ paths: valuePaths, keepStack: false });
    newParser.onValue = forwardValue;
    return newParser;
  }

  function onToken(token: Token): void {
    bytesAtToken = bytes;
    tokenOffset = token.offset ?? tokenOffset;
    if (depth === 0) isList = token.token === TokenType.LEFT_BRACKET;
    if (token.token === TokenType.LEFT_BRACE || token.token === TokenType.LEFT_BRACKET) depth += 1;
    else if (token.token === TokenType.RIGHT_BRACE || token.token === TokenType.RIGHT_BRACKET) depth -= 1;
    if (!isSkipping) parser.write(token);
    else if (depth === 1) resumeAfterSkip();
  }

  /** Resumes after a skipped conversation, with a new parser that is inside the list. */
  function resumeAfterSkip(): void {
    isSkipping = false;
    bytesAtValue = bytes;
    parser = createParser();
    parser.onValue = () => {};
    parser.write({ token: TokenType.LEFT_BRACKET, value: "[" });
    parser.write({ token: TokenType.NULL, value: null });
    parser.onValue = forwardValue;
    handlers.onOversized();
  }

  function checkSizes(): void {
    if (bytes - bytesAtToken > TOKEN_BYTES_MAX)
      throw new ImportError("too_large", `The string that starts near byte ${tokenOffset} is too large.`);
    if (isSkipping || bytes - bytesAtValue <= VALUE_BYTES_MAX) return;
    if (!isList || depth <= 1)
      throw new ImportError("too_large", `The value that starts before byte ${tokenOffset} is too large.`);
    isSkipping = true;
  }

  tokenizer.onToken = onToken;

  const createSyntaxError = (): ImportError =>
    new ImportError(
      "malformed",
      `The file isn't valid JSON: it is truncated or has an error near byte ${tokenOffset}.`,
    );

  /** Saves a handler's error, because the parser reports all errors as invalid JSON. */
  function forwardValue(parsedValue: ParsedValue): void {
    try {
      if (passToHandler(parsedValue, handlers)) bytesAtValue = bytes;
    } catch (error) {
      handlerFailure = { error };
      throw error;
    }
  }

  return {
    write(chunk) {
      bytes += chunk.byteLength;
      try {
        tokenizer.write(chunk);
      } catch {
        throw handlerFailure ? handlerFailure.error : createSyntaxError();
      }
      checkSizes();
    },

    end() {
      try {
        if (!tokenizer.isEnded) tokenizer.end();
        if (!parser.isEnded) parser.end();
      } catch {
        throw handlerFailure ? handlerFailure.error : createSyntaxError();
      }
    },

    isList: () => isList,
  };
}

/** Passes a value to its handler. Returns whether the value can be discarded. */
function passToHandler({ value, key, parent, stack }: ParsedValue, handlers: JsonHandlers): boolean {
  if (stack.length === 0) {
    if (isConversation(value)) handlers.onConversation(value);
    return true;
  }
  const field = String(stack.at(-1)?.key ?? "");
  const isMessage = stack.length > 1 && nodeFields.includes(field);
  if (isMessage) {
    handlers.onNode(field, String(key), value);
    removeFrom(parent, key);
    removeUnusedFields(stack.at(-1)?.value);
    return true;
  }
  const isListItem = Array.isArray(parent);
  if (isListItem || isConversation(value)) {
    // If the list is in a wrapper object, the parser reports the list itself as a value, too, after its items.
    if (isListItem || !nodeFields.includes(String(key))) handlers.onConversation(value);
    removeFrom(parent, key);
    return true;
  }
  removeUnusedFields(parent);
  return false;
}

/** Returns whether the value has a field for messages. */
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
