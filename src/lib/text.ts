/**
 * Combining marks that may follow each other, as in the Stream-Safe Text Format of UAX #15. No script needs as many, and
 * bringing them into order takes square time.
 */
export const COMBINING_MARKS_MAX = 30;

// Below U+0300 every character is as NFC wants it, and none combines with the one before.
const combinable = /[\u0300-\uffff]/;
const markRun = new RegExp(`\\p{M}{${COMBINING_MARKS_MAX + 1}}`, "u");
// biome-ignore lint/suspicious/noControlCharactersInRegex: it is what is looked for.
const control = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]/;
// Controls, line and paragraph separators, and the marks that turn the direction of text: in a name they only serve to
// make it look like another one. Joiners stay, since emoji and several scripts need them.
const hidden = /[\p{Cc}\p{Zl}\p{Zp}\u202a-\u202e\u2066-\u2069]/u;

/**
 * Characters that show nothing by themselves: blanks, what Unicode says to ignore where it isn't supported (zero width,
 * fillers, soft hyphens, variation selectors, tags), format characters, and glyphs that are empty by design (Braille
 * U+2800, U+FFFC, hieroglyphs U+13441 and U+13442, U+1D159). Marks need a letter to stand on.
 */
const visible =
  /[^\p{White_Space}\p{Default_Ignorable_Code_Point}\p{Noncharacter_Code_Point}\p{Cc}\p{Cf}\p{Cs}\p{M}\u2800\ufffc\u{13441}\u{13442}\u{1d159}]/u;

/** Whether Postgres can store the text and UTF-8 can carry it: no NUL, no lone surrogate. */
export const isStorableText = (text: string): boolean => text.isWellFormed() && !text.includes("\0");

/** Whether it is text as people write it: storable, and of the control characters only tab and line breaks. */
export const isPlainText = (text: string): boolean => !control.test(text) && text.isWellFormed();

/** Whether it is one line of which nothing is hidden: a name, a title. */
export const isLine = (text: string): boolean => !hidden.test(text) && text.isWellFormed();

/** Whether anybody can see it. */
export const isVisible = (text: string): boolean => visible.test(text);

/** Whether more marks are piled up in it than a letter can bear; such a text must not be normalised. */
export const hasMarkRun = (text: string): boolean => combinable.test(text) && markRun.test(text);

/** Whether `normalizeText` would give back the same. Cheap for what has no marks; it is asked for every frame. */
export const isNormalized = (text: string): boolean =>
  !combinable.test(text) || (!markRun.test(text) && text.normalize("NFC") === text);

/** The one form in which texts are stored and compared: NFC. One with too many marks in a row is left as it is. */
export const normalizeText = (text: string): string =>
  !combinable.test(text) || markRun.test(text) ? text : text.normalize("NFC");
