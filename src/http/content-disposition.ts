const NAME_CHARS_MAX = 100;

/** Characters with a meaning for a shell, a file system or a header, and invisible ones. */
const unsafe = /[\p{C}\p{Zl}\p{Zp}<>:"/\\|?*%;'`$]+/gu;

/**
 * `Content-Disposition` of a download (RFC 6266): an ASCII name for every client, and the full one for clients that support `filename*`.
 * @param title the user's title; unsafe characters are removed.
 * @param fallback used if nothing of the title is left.
 */
export function createAttachment(title: string, fallback: string, extension: string): string {
  const name = cleanName(title) || fallback;
  const plain = cleanName(name.normalize("NFKD").replaceAll(/[^\x20-\x7e]+/g, "")) || fallback;
  return `attachment; filename="${plain}.${extension}"; filename*=UTF-8''${encode(`${name}.${extension}`)}`;
}

/** No dots or spaces at the ends: `..` is a folder, and a leading dot hides the file. */
const cleanName = (text: string): string =>
  [...text.toWellFormed().replaceAll(unsafe, " ").replaceAll(/\s+/g, " ")]
    .slice(0, NAME_CHARS_MAX)
    .join("")
    .replaceAll(/^[.\s]+|[.\s]+$/g, "");

/** RFC 8187: `encodeURIComponent` leaves four characters that need escaping here. */
const encode = (text: string): string =>
  encodeURIComponent(text).replaceAll(/[!'()*]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`);
