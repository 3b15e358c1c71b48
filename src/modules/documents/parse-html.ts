import { type DefaultTreeAdapterTypes, defaultTreeAdapter, html, Parser, type TreeAdapter } from "parse5";

type Map = DefaultTreeAdapterTypes.DefaultTreeAdapterMap;

/** UTF-16 units that are parsed, at about 1 MB/s in the worst case. Markdown can grow to 30 times its size. */
const HTML_CHARS_MAX = 512 * 1024;
/** Elements, also those that the parser adds: it reopens every `<b>` that was not closed in each following paragraph. */
const ELEMENTS_MAX = 30_000;
/** Elements inside each other. The parser and what follows look through, or recurse into, all that are open. */
export const DEPTH_MAX = 100;
/** UTF-16 units of the attributes of all elements, since an element that is reopened repeats its own. */
const ATTRIBUTE_CHARS_MAX = 1024 * 1024;
/** Attributes of one tag: each is compared with those before it. */
const TAG_ATTRIBUTES_MAX = 500;
/** UTF-16 units between two looks at the attributes of an unfinished tag. */
const CHUNK_CHARS = 2_048;

class TooComplexError extends Error {}

/**
 * Parses the content of an HTML body as browsers do (WHATWG), so nobody sees other elements in it than we do.
 * @returns null for a text that would take long, or much memory.
 */
export function parseHtml(text: string): Map["documentFragment"] | null {
  if (text.length > HTML_CHARS_MAX) return null;
  const parser = Parser.getFragmentParser<Map>(defaultTreeAdapter.createElement("body", html.NS.HTML, []), {
    treeAdapter: createBoundedAdapter(),
    // Browsers that run no scripts show what is in `<noscript>`; either way it's dropped.
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

/** Of the tag that is being read. The parser doesn't offer it; a test fails if it is no longer there. */
function countAttributes({ tokenizer }: Parser<Map>): number {
  const { currentToken } = tokenizer as unknown as { currentToken: { attrs?: unknown[] } | null };
  return currentToken?.attrs?.length ?? 0;
}

/** The parser's own tree, which ends the parsing when it grows too large. */
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
