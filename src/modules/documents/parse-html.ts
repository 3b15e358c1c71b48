import { type DefaultTreeAdapterTypes, defaultTreeAdapter, html, Parser, type TreeAdapter } from "parse5";

type Map = DefaultTreeAdapterTypes.DefaultTreeAdapterMap;

/** Maximum length to parse, in UTF-16 units, at about 1 MB/s in the worst case. Markdown can expand to 30 times its size. */
const HTML_CHARS_MAX = 512 * 1024;
/** Maximum number of elements, including the ones that the parser adds: it reopens every unclosed `<b>` in each following paragraph. */
const ELEMENTS_MAX = 30_000;
/** Maximum nesting depth. The parser and later steps search or recurse into all open elements. */
export const DEPTH_MAX = 100;
/** Maximum length of all elements' attributes, in UTF-16 units, since a reopened element repeats its attributes. */
const ATTRIBUTE_CHARS_MAX = 1024 * 1024;
/** Maximum attributes per tag: each is compared with the previous ones. */
const TAG_ATTRIBUTES_MAX = 500;
/** Length of the chunks, in UTF-16 units, between which an unfinished tag's attributes are counted. */
const CHUNK_CHARS = 2_048;

class TooComplexError extends Error {}

/**
 * Parses HTML body content as browsers do (WHATWG), so that it finds the same elements.
 * @returns null if parsing would take too much time or memory.
 */
export function parseHtml(text: string): Map["documentFragment"] | null {
  if (text.length > HTML_CHARS_MAX) return null;
  const parser = Parser.getFragmentParser<Map>(defaultTreeAdapter.createElement("body", html.NS.HTML, []), {
    treeAdapter: createBoundedAdapter(),
    // Browsers without scripts show the content of `<noscript>`; it's dropped either way.
    scriptingEnabled: true,
  });
  try {
    for (let at = 0; at < text.length; at += CHUNK_CHARS) {
      parser.tokenizer.write(text.slice(at, at + CHUNK_CHARS), false);
      if (countAttributes(parser) > TAG_ATTRIBUTES_MAX) return null;
    }
    parser.tokenizer.write("", true);
    return parser.getFragment();
  } catch (error) {
    if (error instanceof TooComplexError) return null;
    throw error;
  }
}

/** Counts the attributes of the tag being read, in a private field of the parser. A test fails if the field disappears. */
function countAttributes({ tokenizer }: Parser<Map>): number {
  const { currentToken } = tokenizer as unknown as { currentToken: { attrs?: unknown[] } | null };
  return currentToken?.attrs?.length ?? 0;
}

/** The parser's tree adapter, which aborts when the tree grows too large. */
function createBoundedAdapter(): TreeAdapter<Map> {
  let elements = 0;
  let attributeChars = 0;
  let depth = 0;
  return {
    ...defaultTreeAdapter,
    createElement(tagName, namespace, attributes) {
      elements += 1;
      for (const { name, value } of attributes) attributeChars += name.length + value.length;
      if (elements > ELEMENTS_MAX || attributeChars > ATTRIBUTE_CHARS_MAX) throw new TooComplexError();
      return defaultTreeAdapter.createElement(tagName, namespace, attributes);
    },
    onItemPush() {
      depth += 1;
      if (depth > DEPTH_MAX) throw new TooComplexError();
    },
    onItemPop() {
      depth -= 1;
    },
  };
}
