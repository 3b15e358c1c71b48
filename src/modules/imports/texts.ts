import { createHash } from "node:crypto";
import { fitText } from "../../db/storable.ts";
import { isLine, isPlainText, isVisible, normalizeText } from "../../lib/text.ts";
import { CONTENT_CHARS_MAX, MODEL_CHARS_MAX } from "../../protocol/frames.ts";
import { TITLE_CHARS_MAX } from "../conversations/model.ts";

const SOURCE_ID_CHARS_MAX = 200;
/** No chat can be older than this; earlier times come from a wrong clock. */
const OLDEST_MS = Date.UTC(2015, 0, 1);

// biome-ignore lint/suspicious/noControlCharactersInRegex: these characters are removed.
const controls = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]/g;
const invisible = /[\p{Cc}\p{Zl}\p{Zp}\u202a-\u202e\u2066-\u2069]+/gu;

/** Truncates to `charsMax` UTF-16 units, without splitting a character. */
function truncate(text: string, charsMax: number): string {
  if (text.length <= charsMax) return text;
  const unit = text.charCodeAt(charsMax - 1);
  return text.slice(0, unit >= 0xd800 && unit <= 0xdbff ? charsMax - 1 : charsMax);
}

/** The value if it is a string; otherwise an empty string. */
export const textOf = (value: unknown): string => (typeof value === "string" ? value : "");

/** Sanitizes a message's text like that of a sent message. `isCut` tells whether its end was cut off. */
export function cleanContent(text: string): { content: string; isCut: boolean } {
  const plain = isPlainText(text) ? text : fitText(text).replaceAll(controls, "");
  const content = normalizeText(plain);
  return { content: truncate(content, CONTENT_CHARS_MAX), isCut: content.length > CONTENT_CHARS_MAX };
}

/** Reduces a title or name to one line without control characters; empty if nothing of it is visible. */
export function cleanLine(value: unknown, charsMax: number = TITLE_CHARS_MAX): string {
  if (typeof value !== "string") return "";
  // Doesn't scan megabytes of a title to its end.
  const start = truncate(value, 4 * charsMax);
  const line = isLine(start) ? start : fitText(start).replaceAll(invisible, " ").replaceAll(/ {2,}/g, " ");
  const title = truncate(normalizeText(line).trim(), charsMax);
  return isVisible(title) ? title : "";
}

/** Makes a model name valid; null if nothing remains. */
export const cleanModel = (value: unknown): string | null => cleanLine(value, MODEL_CHARS_MAX) || null;

/** Returns the source's id, or a hash of it if it is too long or has invalid characters. */
export function cleanId(value: unknown): string | null {
  if (typeof value !== "string" || value === "") return null;
  const id = cleanLine(value, SOURCE_ID_CHARS_MAX);
  return id === value ? id : `sha256:${createHash("sha256").update(value).digest("hex")}`;
}

/** Parses a date, or seconds since 1970 (number or string). Null if it isn't a plausible time for a chat. */
export function readTime(value: unknown, nowMs: number): Date | null {
  const ms = readMs(value);
  return Number.isFinite(ms) && ms >= OLDEST_MS && ms <= nowMs ? new Date(Math.trunc(ms)) : null;
}

const DATE_CHARS_MAX = 64;

function readMs(value: unknown): number {
  if (typeof value === "number") return value * 1_000;
  if (typeof value !== "string" || value.length > DATE_CHARS_MAX) return Number.NaN;
  const seconds = Number(value);
  return value.trim() !== "" && Number.isFinite(seconds) ? seconds * 1_000 : Date.parse(value);
}
