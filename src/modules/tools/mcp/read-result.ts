type Content = {
  type?: unknown;
  text?: unknown;
  name?: unknown;
  uri?: unknown;
  resource?: { text?: unknown; uri?: unknown };
};

/**
 * Converts a call's result to text: texts are unchanged, links become name and URI. Other content is only mentioned,
 * because models receive only text.
 */
export function readResult({ content, structuredContent }: { content?: unknown; structuredContent?: unknown }): string {
  const parts = Array.isArray(content) ? (content as Content[]).map(readPart) : [];
  // Servers should also send structured content as text; this is for those that don't.
  if (parts.length === 0 && structuredContent !== undefined) return JSON.stringify(structuredContent);
  return parts.join("\n");
}

function readPart({ type, text, name, uri, resource }: Content): string {
  if (typeof text === "string") return text;
  if (typeof resource?.text === "string") return resource.text;
  if (type === "resource_link")
    return `(resource ${[name, uri].filter((part) => typeof part === "string").join(": ")})`;
  return `(${String(type)} left out)`;
}
