type Content = {
  type?: unknown;
  text?: unknown;
  name?: unknown;
  uri?: unknown;
  resource?: { text?: unknown; uri?: unknown };
};

/**
 * Converts a call's result to text. A link becomes its name and URI. Other content is replaced by a note, because models receive
 * only text.
 */
export function formatResult({
  content,
  structuredContent,
}: {
  content?: unknown;
  structuredContent?: unknown;
}): string {
  const formattedParts = Array.isArray(content) ? (content as Content[]).map(formatPart) : [];
  // Some servers send only structured content, although they should also send it as text.
  if (formattedParts.length === 0 && structuredContent !== undefined) return JSON.stringify(structuredContent);
  return formattedParts.join("\n");
}

function formatPart({ type, text, name, uri, resource }: Content): string {
  if (typeof text === "string") return text;
  if (typeof resource?.text === "string") return resource.text;
  if (type === "resource_link")
    return `(resource ${[name, uri].filter((part) => typeof part === "string").join(": ")})`;
  return `(${String(type)} omitted)`;
}
