/** Stands where something is hidden. */
export const MASK = "********";

export type Userinfo = {
  /** The address without it. */
  url: string;
  /** The value of `Authorization` that stands for it (RFC 7617). */
  authorization: string;
  /** Every form of it that must not appear in a log. */
  secrets: string[];
};

/** The `user:password@` of an address. @returns null if it has none, or is no address. */
export function readUserinfo(address: string): Userinfo | null {
  if (!URL.canParse(address)) return null;
  const url = new URL(address);
  const { username, password } = url;
  if (username === "" && password === "") return null;
  url.username = "";
  url.password = "";
  const encoded = Buffer.concat([decode(username), Buffer.from(":"), decode(password)]).toString("base64");
  const written = /^[^/]+:\/\/([^/\\?#]*)@/.exec(address)?.[1] ?? "";
  const forms = [written, `${username}:${password}`, `${decode(username)}:${decode(password)}`];
  // Without a password the user is a token. The longest come first, since one may be a part of another.
  const words = forms.map((form) => /^[^:]*:(.+)$/s.exec(form)?.[1] ?? form.replace(/:$/, ""));
  const secrets = [...new Set([encoded, ...forms, ...words])].sort((a, b) => b.length - a.length);
  return { url: url.href, authorization: `Basic ${encoded}`, secrets };
}

/** A text that may be an address, as people may see it: with its `user:password@` masked, also where it is malformed. */
export function maskUserinfo(text: string): string {
  const scheme = text.indexOf("://");
  if (scheme < 0) return text;
  const from = scheme + 3;
  const rest = text.slice(from);
  const address = text.slice(Math.max(0, text.lastIndexOf("=", scheme) + 1));
  // An `@` in the path or in the query belongs to no userinfo, provided that it is one address which can be read.
  // A colon without a port is more likely the beginning of a password that should have been percent-encoded.
  const isReadable = URL.canParse(address) && !/\s|^[^/\\?#]*:[/\\?#]/.test(rest);
  const authority = isReadable ? (/^[^/\\?#]*/.exec(rest)?.[0] ?? "") : rest;
  const at = authority.lastIndexOf("@");
  return at < 0 ? text : `${text.slice(0, from)}${MASK}${rest.slice(at)}`;
}

/** Percent-encoded bytes; what is no such encoding stands for itself. */
function decode(text: string): Buffer {
  const bytes = text.replace(/%([0-9a-f]{2})/gi, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 16)),
  );
  return Buffer.from(bytes, "latin1");
}
