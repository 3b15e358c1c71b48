const NAME_CHARS_MAX = 100;

/** What a shell, a file system or a header could take for something else, and what cannot be seen. */
const unsafe = /[\p{C}\p{Zl}\p{Zp}<>:"/\\|?*%;'`$]+/gu;

/**
 * `Content-Disposition` of a download (RFC 6266): a plain name for every client, and the whole one for those that know `filename*`.
 * @param title what people call it; whatever it is, the name is a safe one.
 * @param fallback for a title of which nothing is left.
 */
export function createAttachment(title: string, fallback: string, extension: string): string {
  const name = cleanName(title) || fallback;
  const plain = cleanName(name.normalize("NFKD").replaceAll(/[^\x20-\x7e]+/g, "")) || fallback;
  return `attachment; filename="${plain}.${extension}"; filename*=UTF-8''${encode(`${name}.${extension}`)}`;
}

/** No dots or spaces at the ends: `..` is a folder, and a dot hides a file. */
const cleanName = (text: string): string =>
  [...text.toWellFormed().replaceAll(unsafe, " ").replaceAll(/\s+/g, " ")]
    .slice(0, NAME_CHARS_MAX)
    .join("")
    .replaceAll(/^[.\s]+|[.\s]+$/g, "");

/** RFC 8187: `encodeURIComponent` leaves four characters that have a meaning there. */
const encode = (text: string): string =>
  encodeURIComponent(text).replaceAll(/[!'()*]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`);
