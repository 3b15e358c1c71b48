import { escapePointer } from "../json.ts";

type SchemaLocation = { value: unknown; pointer: string };

/** Resolves references within one schema. */
export class SchemaReferences {
  readonly #root: unknown;
  /** The anchors by name. They are collected only once, because searching for each reference would take quadratic time. */
  #anchors: ReadonlyMap<string, SchemaLocation> | null = null;

  constructor(root: unknown) {
    this.#root = root;
  }

  /** Finds the schema that a reference (`#`, `#/$defs/name`, `#anchor`) refers to. Returns null if it doesn't exist. */
  find(reference: string): SchemaLocation | null {
    const fragment = decodeFragment(reference.slice(1));
    if (fragment === null) return null;
    if (fragment === "") return { value: this.#root, pointer: "#" };
    if (fragment.startsWith("/")) return findByPointer(this.#root, fragment);
    this.#anchors ??= collectAnchors(this.#root, "#", new Map());
    return this.#anchors.get(fragment) ?? null;
  }
}

function findByPointer(root: unknown, fragment: string): SchemaLocation | null {
  let value = root;
  for (const token of fragment.slice(1).split("/")) {
    const key = token.replaceAll("~1", "/").replaceAll("~0", "~");
    if (typeof value !== "object" || value === null || !Object.hasOwn(value, key)) return null;
    value = (value as Record<string, unknown>)[key];
  }
  return { value, pointer: `#${fragment}` };
}

/** Collects the anchors. If several have the same name, the first one is used. */
function collectAnchors(
  value: unknown,
  pointer: string,
  anchors: Map<string, SchemaLocation>,
): Map<string, SchemaLocation> {
  if (typeof value !== "object" || value === null) return anchors;
  const { $anchor, $id } = value as { $anchor?: unknown; $id?: unknown };
  for (const name of [$anchor, typeof $id === "string" && $id.startsWith("#") ? $id.slice(1) : null])
    if (typeof name === "string" && !anchors.has(name)) anchors.set(name, { value, pointer });
  for (const [key, inner] of Object.entries(value)) collectAnchors(inner, `${pointer}/${escapePointer(key)}`, anchors);
  return anchors;
}

function decodeFragment(text: string): string | null {
  try {
    return decodeURIComponent(text);
  } catch {
    return null;
  }
}
