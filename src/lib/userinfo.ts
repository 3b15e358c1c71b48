/** Replaces masked text. */
export const MASK = "********";

export type Userinfo = {
  /** The URL without its userinfo. */
  url: string;
  /** The equivalent value of the `Authorization` header (RFC 7617). */
  authorization: string;
  /** The userinfo in all encodings. None of them may be logged. */
  secrets: string[];
};

/** Parses the `user:password@` of a URL. Returns null if there is none or it isn't a URL. */
export function parseUserinfo(address: string): Userinfo | null {
  if (!URL.canParse(address)) return null;
  const url = new URL(address);
  const { username, password } = url;
  if (username === "" && password === "") return null;
  url.username = "";
  url.password = "";
  const encoded = Buffer.concat([decode(username), Buffer.from(":"), decode(password)]).toString("base64");
  const written = /^[^/]+:\/\/([^/\\?#]*)@/.exec(address)?.[1] ?? "";
  const forms = [written, `${username}:${password}`, `${decode(username)}:${decode(password)}`];
  // Without a password, the user is a token. Longest first, because one may contain another.
  const words = forms.map((form) => /^[^:]*:(.+)$/s.exec(form)?.[1] ?? form.replace(/:$/, ""));
  const secrets = [...new Set([encoded, ...forms, ...words])].sort((a, b) => b.length - a.length);
  return { url: url.href, authorization: `Basic ${encoded}`, secrets };
}

/** Masks the `user:password@` in a text that may be a URL, even a malformed one. */
export function maskUserinfo(text: string): string {
  const scheme = text.indexOf("://");
  if (scheme < 0) return text;
  const from = scheme + 3;
  const rest = text.slice(from);
  const address = text.slice(Math.max(0, text.lastIndexOf("=", scheme) + 1));
  // In a valid URL, an `@` in the path or query isn't part of the userinfo. But a colon without a port is probably followed by a
  // password with unencoded characters.
  const isReadable = URL.canParse(address) && !/\s|^[^/\\?#]*:[/\\?#]/.test(rest);
  const authority = isReadable ? (/^[^/\\?#]*/.exec(rest)?.[0] ?? "") : rest;
  const at = authority.lastIndexOf("@");
  return at < 0 ? text : `${text.slice(0, from)}${MASK}${rest.slice(at)}`;
}

/** Decodes percent-encoding. Invalid sequences stay unchanged. */
function decode(text: string): Buffer {
  const bytes = text.replace(/%([0-9a-f]{2})/gi, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 16)),
  );
  return Buffer.from(bytes, "latin1");
}
