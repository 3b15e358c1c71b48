import { createHash } from "node:crypto";
import { toStorableText } from "../../db/storable.ts";
import { hasVisibleCharacter, isPlainText, isSingleLine, normalizeText } from "../../lib/text.ts";
import { CONTENT_CHARS_MAX, MODEL_CHARS_MAX } from "../../protocol/frames.ts";
import { TITLE_CHARS_MAX } from "../conversations/model.ts";

const SOURCE_ID_CHARS_MAX = 200;
/** Earlier times are invalid, because neither ChatGPT nor Claude existed then. */
const OLDEST_MS = Date.UTC(2015, 0, 1);

// biome-ignore lint/suspicious/noControlCharactersInRegex: these characters are removed.
const CONTROL_CHARS = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]/g;
const INVISIBLE_CHARS = /[\p{Cc}\p{Zl}\p{Zp}\u202a-\u202e\u2066-\u2069]+/gu;

/** Truncates text to `charsMax` UTF-16 code units without splitting a character. */
function truncate(text: string, charsMax: number): string {
  if (text.length <= charsMax) return text;
  const lastUnit = text.charCodeAt(charsMax - 1);
  return text.slice(0, lastUnit >= 0xd800 && lastUnit <= 0xdbff ? charsMax - 1 : charsMax);
}

/** Returns the value if it is a string, otherwise an empty string. */
export const getText = (value: unknown): string => (typeof value === "string" ? value : "");

/** Sanitizes the text of a message. `isTruncated` is true if the text was truncated. */
export function cleanContent(text: string): { content: string; isTruncated: boolean } {
  const cleaned = isPlainText(text) ? text : toStorableText(text).replaceAll(CONTROL_CHARS, "");
  const content = normalizeText(cleaned);
  return { content: truncate(content, CONTENT_CHARS_MAX), isTruncated: content.length > CONTENT_CHARS_MAX };
}

/** Converts a title or name to one line without control characters. Returns an empty string if nothing is visible. */
export function cleanLine(value: unknown, charsMax: number = TITLE_CHARS_MAX): string {
  if (typeof value !== "string") return "";
  // Avoids scanning a title of several megabytes.
  const beginning = truncate(value, 4 * charsMax);
  const line = isSingleLine(beginning)
    ? beginning
    : toStorableText(beginning).replaceAll(INVISIBLE_CHARS, " ").replaceAll(/ {2,}/g, " ");
  const title = truncate(normalizeText(line).trim(), charsMax);
  return hasVisibleCharacter(title) ? title : "";
}

/** Sanitizes a model name. Returns null if nothing is left. */
export const cleanModel = (value: unknown): string | null => cleanLine(value, MODEL_CHARS_MAX) || null;

/** Returns the id that a conversation has in the file, or a hash of the id if it is too long or contains invalid characters. */
export function cleanId(value: unknown): string | null {
  if (typeof value !== "string" || value === "") return null;
  const id = cleanLine(value, SOURCE_ID_CHARS_MAX);
  return id === value ? id : `sha256:${createHash("sha256").update(value).digest("hex")}`;
}

/** Parses a date, or seconds since 1970 as a number or string. Returns null if the time isn't plausible. */
export function parseTime(value: unknown, nowMs: number): Date | null {
  const timeMs = parseMs(value);
  return Number.isFinite(timeMs) && timeMs >= OLDEST_MS && timeMs <= nowMs ? new Date(Math.trunc(timeMs)) : null;
}

const DATE_CHARS_MAX = 64;

function parseMs(value: unknown): number {
  if (typeof value === "number") return value * 1_000;
  if (typeof value !== "string" || value.length > DATE_CHARS_MAX) return Number.NaN;
  const seconds = Number(value);
  return value.trim() !== "" && Number.isFinite(seconds) ? seconds * 1_000 : Date.parse(value);
}
