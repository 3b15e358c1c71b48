import { escapePointer } from "../json.ts";

type Place = { value: unknown; pointer: string };

/** The target of a reference (`#`, `#/$defs/name`, `#anchor`) in a schema; null if it doesn't exist. */
export function findPlace(root: unknown, reference: string): Place | null {
  const fragment = decode(reference.slice(1));
  if (fragment === null) return null;
  if (fragment === "") return { value: root, pointer: "#" };
  if (!fragment.startsWith("/")) return findAnchor(root, fragment, "#");
  let value = root;
  for (const token of fragment.slice(1).split("/")) {
    const key = token.replaceAll("~1", "/").replaceAll("~0", "~");
    if (typeof value !== "object" || value === null || !Object.hasOwn(value, key)) return null;
    value = (value as Record<string, unknown>)[key];
  }
  return { value, pointer: `#${fragment}` };
}

function findAnchor(value: unknown, name: string, pointer: string): Place | null {
  if (typeof value !== "object" || value === null) return null;
  const { $anchor, $id } = value as { $anchor?: unknown; $id?: unknown };
  if ($anchor === name || $id === `#${name}`) return { value, pointer };
  for (const [key, inner] of Object.entries(value)) {
    const found = findAnchor(inner, name, `${pointer}/${escapePointer(key)}`);
    if (found) return found;
  }
  return null;
}

function decode(text: string): string | null {
  try {
    return decodeURIComponent(text);
  } catch {
    return null;
  }
}
