/**
 * Maximum number of consecutive combining marks, as in the Stream-Safe Text Format of UAX #15. No script needs more, and
 * normalizing them takes quadratic time.
 */
export const COMBINING_MARKS_MAX = 30;

// All characters below U+0300 are already in NFC, and none combines with the previous one.
const combinablePattern = /[\u0300-\uffff]/;
const markRunPattern = new RegExp(`\\p{M}{${COMBINING_MARKS_MAX + 1}}`, "u");
// biome-ignore lint/suspicious/noControlCharactersInRegex: the pattern is meant to match control characters.
const controlPattern = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]/;
// Control characters, line and paragraph separators, and bidirectional marks, which could be used to imitate a different name.
// Joiners are allowed, because emoji and several scripts need them.
const hiddenPattern = /[\p{Cc}\p{Zl}\p{Zp}\u202a-\u202e\u2066-\u2069]/u;

/**
 * Excludes characters that are invisible on their own: blanks, default-ignorable characters (zero width, fillers, soft hyphens,
 * variation selectors, tags), format characters, and glyphs that are empty by design (Braille U+2800, U+FFFC, hieroglyphs
 * U+13441 and U+13442, U+1D159). Marks need a letter to combine with.
 */
const visiblePattern =
  /[^\p{White_Space}\p{Default_Ignorable_Code_Point}\p{Noncharacter_Code_Point}\p{Cc}\p{Cf}\p{Cs}\p{M}\u2800\ufffc\u{13441}\u{13442}\u{1d159}]/u;

/** Whether Postgres can store the text and UTF-8 can encode it: no NUL, no lone surrogates. */
export const isStorableText = (text: string): boolean => text.isWellFormed() && !text.includes("\0");

/** Whether the text is storable, and has no control characters except tab and line breaks. */
export const isPlainText = (text: string): boolean => !controlPattern.test(text) && text.isWellFormed();

/** Whether the text is one line without hidden characters, as names and titles must be. */
export const isSingleLine = (text: string): boolean => !hiddenPattern.test(text) && text.isWellFormed();

/** Whether the text has a visible character. */
export const hasVisibleCharacter = (text: string): boolean => visiblePattern.test(text);

/** Whether the text has too many consecutive combining marks. Such text must not be normalized. */
export const hasMarkRun = (text: string): boolean => combinablePattern.test(text) && markRunPattern.test(text);

/** Whether `normalizeText` would return the text unchanged. Called for every frame, so it is fast for text without marks. */
export const isNormalized = (text: string): boolean =>
  !combinablePattern.test(text) || (!markRunPattern.test(text) && text.normalize("NFC") === text);

/** Converts text to NFC, in which it is stored and compared. Text with too many consecutive marks is returned unchanged. */
export const normalizeText = (text: string): string =>
  !combinablePattern.test(text) || markRunPattern.test(text) ? text : text.normalize("NFC");
