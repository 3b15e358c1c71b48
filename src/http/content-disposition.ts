const NAME_CHARS_MAX = 100;

/** Invisible characters, and those with a special meaning in a shell, a file system or a header. */
const unsafeCharacters = /[\p{C}\p{Zl}\p{Zp}<>:"/\\|?*%;'`$]+/gu;

/**
 * Returns the `Content-Disposition` of a download (RFC 6266). It contains an ASCII file name, and the full name for clients
 * that support `filename*`.
 * @param title a user's title, from which unsafe characters are removed.
 * @param fallback used if the title has no safe characters.
 */
export function createAttachmentHeader(title: string, fallback: string, extension: string): string {
  const name = cleanName(title) || fallback;
  const asciiName = cleanName(name.normalize("NFKD").replaceAll(/[^\x20-\x7e]+/g, "")) || fallback;
  return `attachment; filename="${asciiName}.${extension}"; filename*=UTF-8''${encodeRfc8187(`${name}.${extension}`)}`;
}

/** Removes unsafe characters, and dots and spaces at both ends, because `..` is a folder and a leading dot hides the file. */
const cleanName = (text: string): string =>
  [...text.toWellFormed().replaceAll(unsafeCharacters, " ").replaceAll(/\s+/g, " ")]
    .slice(0, NAME_CHARS_MAX)
    .join("")
    .replaceAll(/^[.\s]+|[.\s]+$/g, "");

/** Encodes a name as RFC 8187 requires. `encodeURIComponent` doesn't escape these characters. */
const encodeRfc8187 = (text: string): string =>
  encodeURIComponent(text).replaceAll(/[!'()*]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`);
