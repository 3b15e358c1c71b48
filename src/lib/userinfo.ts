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
  const encoded = Buffer.concat([decodePercent(username), Buffer.from(":"), decodePercent(password)]).toString(
    "base64",
  );
  const originalUserinfo = /^[^/]+:\/\/([^/\\?#]*)@/.exec(address)?.[1] ?? "";
  const userinfoForms = [
    originalUserinfo,
    `${username}:${password}`,
    `${decodePercent(username)}:${decodePercent(password)}`,
  ];
  // Without a password, the user is a token. The longest is first, because one secret may contain another.
  const passwords = userinfoForms.map((form) => /^[^:]*:(.+)$/s.exec(form)?.[1] ?? form.replace(/:$/, ""));
  const secrets = [...new Set([encoded, ...userinfoForms, ...passwords])].sort((a, b) => b.length - a.length);
  return { url: url.href, authorization: `Basic ${encoded}`, secrets };
}

/** Masks the `user:password@` in a string that may be a URL, even if the URL is malformed. */
export function maskUserinfo(text: string): string {
  const scheme = text.indexOf("://");
  if (scheme < 0) return text;
  const userinfoStart = scheme + 3;
  const afterScheme = text.slice(userinfoStart);
  const address = text.slice(Math.max(0, text.lastIndexOf("=", scheme) + 1));
  // In a valid URL, an `@` in the path or query isn't part of the userinfo. But a colon without a port is probably followed by a
  // password with unencoded characters.
  const isReadable = URL.canParse(address) && !/\s|^[^/\\?#]*:[/\\?#]/.test(afterScheme);
  const authority = isReadable ? (/^[^/\\?#]*/.exec(afterScheme)?.[0] ?? "") : afterScheme;
  const userinfoEnd = authority.lastIndexOf("@");
  return userinfoEnd < 0 ? text : `${text.slice(0, userinfoStart)}${MASK}${afterScheme.slice(userinfoEnd)}`;
}

/** Decodes percent-encoding. Invalid sequences stay unchanged. */
function decodePercent(text: string): Buffer {
  const bytes = text.replace(/%([0-9a-f]{2})/gi, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 16)),
  );
  return Buffer.from(bytes, "latin1");
}
