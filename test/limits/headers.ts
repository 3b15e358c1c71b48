/** Parses a `RateLimit` or `RateLimit-Policy` header, which lists quoted names with integer parameters. */
export function parseLimitHeader(header: string | null): Record<string, Record<string, number>> {
  if (header === null) throw new Error("The header is missing.");
  const items = header.split(", ").map((item): [string, Record<string, number>] => {
    const match = /^"([a-z_]+)"((?:;[a-z]=\d+)+)$/.exec(item);
    if (!match?.[1] || !match[2]) throw new Error(`Invalid item in a limit header: ${item}`);
    const parameters = match[2].slice(1).split(";");
    return [match[1], Object.fromEntries(parameters.map((pair) => [pair[0], Number(pair.slice(2))]))];
  });
  return Object.fromEntries(items);
}
