import { MASK, maskUserinfo, parseUserinfo } from "./userinfo.ts";

/** URL parameters that never contain a secret. The values of all others are masked. */
const nonSecretParameters = new Set([
  ...[
    "api-version",
    "version",
    "host",
    "port",
    "dbname",
    "sslmode",
    "ssl",
    "sslrootcert",
    "sslnegotiation",
    "channel_binding",
  ],
  ...["connect_timeout", "application_name", "target_session_attrs", "family", "db", "region"],
]);

/** Matches path segments that are probably keys: long ones with digits and letters. */
const keySegment = /^(?=[^/]*\d)(?=[^/]*[a-z])[\w.~%+=-]{20,}$/i;

/** Minimum length of a masked secret, in UTF-16 code units. Shorter secrets appear in too many unrelated strings. */
const SECRET_CHARS_MIN = 4;

/**
 * Masks the secrets in a URL: user and password, parameter values, and path segments that look like a key. Text that isn't a URL
 * is returned unchanged.
 * @param text a URL, which may have a name before it: `name=https://…`.
 */
export function maskAddress(text: string): string {
  const scheme = text.indexOf("://");
  if (scheme < 0) return text;
  const masked = maskUserinfo(text);
  const [, start = "", path = "", query = "", fragment = ""] =
    /^([^?#]*?:\/\/[^/?#]*)([^?#]*)(\?[^#]*)?(#.*)?$/s.exec(masked) ?? [];
  if (start === "") return `${text.slice(0, scheme)}://${MASK}`;
  const segments = path.split("/").map((segment) => (keySegment.test(segment) ? MASK : segment));
  const parameters = query
    .slice(1)
    .split("&")
    .map((parameter) => {
      const [, name = "", value] = /^([^=]*)=(.*)$/s.exec(parameter) ?? [];
      if (value === undefined) return parameter === "" ? "" : MASK;
      return nonSecretParameters.has(name.toLowerCase()) || value === "" ? parameter : `${name}=${MASK}`;
    });
  return start + segments.join("/") + (query && `?${parameters.join("&")}`) + (fragment && `#${MASK}`);
}

/** Masks a URL in a secret setting, even if it is invalid because of an unencoded `/`, `?` or `#` in its password. */
export function maskSecretAddress(text: string): string {
  const scheme = text.indexOf("://");
  const userinfoEnd = text.lastIndexOf("@");
  if (scheme < 0) return MASK;
  return maskAddress(userinfoEnd < 0 ? text : `${text.slice(0, scheme)}://${MASK}${text.slice(userinfoEnd)}`);
}

/** Lists the secrets that `maskAddress` masks in a URL, in every encoding that an error message may contain. */
export function listAddressSecrets(address: string): string[] {
  if (!URL.canParse(address)) return [];
  const { searchParams, search, pathname, hash } = new URL(address);
  const parameterValues = [...searchParams]
    .filter(([name]) => !nonSecretParameters.has(name.toLowerCase()))
    .map(([, value]) => value);
  const encodedValues = search
    .slice(1)
    .split("&")
    .flatMap((parameter) => {
      const [, name = "", value = ""] = /^([^=]*)=(.*)$/s.exec(parameter) ?? [null, "", parameter];
      return nonSecretParameters.has(name.toLowerCase()) ? [] : [value];
    });
  const segments = pathname.split("/").filter((segment) => keySegment.test(segment));
  const secrets = [
    ...(parseUserinfo(address)?.secrets ?? []),
    ...parameterValues,
    ...encodedValues,
    ...segments,
    hash.slice(1),
  ];
  return [...new Set(secrets)].filter((secret) => secret.length >= SECRET_CHARS_MIN);
}
