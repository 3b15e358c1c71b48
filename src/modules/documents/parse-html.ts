import { type DefaultTreeAdapterTypes, defaultTreeAdapter, html, Parser, type TreeAdapter } from "parse5";

type TreeTypes = DefaultTreeAdapterTypes.DefaultTreeAdapterMap;

/** Maximum length of HTML to parse, in UTF-16 code units. Parsing can be as slow as 1 MB/s, and Markdown can expand 30-fold. */
const HTML_CHARS_MAX = 512 * 1024;
/** Maximum number of elements, including elements that the parser adds: it reopens every unclosed `<b>` in each paragraph. */
const ELEMENTS_MAX = 30_000;
/** Maximum nesting depth, because the parser and later steps recurse. */
export const DEPTH_MAX = 100;
/** Maximum total length of all attributes, in UTF-16 code units. Reopened elements repeat their attributes. */
const ATTRIBUTE_CHARS_MAX = 1024 * 1024;
/** Maximum number of attributes per tag. The parser compares each attribute with all previous ones. */
const TAG_ATTRIBUTES_MAX = 500;
/** Length of a chunk, in UTF-16 code units. After each chunk, the attributes of an unfinished tag are counted. */
const CHUNK_CHARS = 2_048;

class TooComplexError extends Error {}

/**
 * Parses the content of an HTML body as browsers do (WHATWG), so that it finds the same elements.
 * @returns null if parsing would take too much time or memory.
 */
export function parseHtml(text: string): TreeTypes["documentFragment"] | null {
  if (text.length > HTML_CHARS_MAX) return null;
  const parser = Parser.getFragmentParser<TreeTypes>(defaultTreeAdapter.createElement("body", html.NS.HTML, []), {
    treeAdapter: createLimitedAdapter(),
    // This only affects how `<noscript>` is parsed, and that element is removed anyway.
    scriptingEnabled: true,
  });
  try {
    for (let start = 0; start < text.length; start += CHUNK_CHARS) {
      parser.tokenizer.write(text.slice(start, start + CHUNK_CHARS), false);
      if (countAttributes(parser) > TAG_ATTRIBUTES_MAX) return null;
    }
    parser.tokenizer.write("", true);
    return parser.getFragment();
  } catch (error) {
    if (error instanceof TooComplexError) return null;
    throw error;
  }
}

/** Counts the attributes of an unfinished tag, which are in a private field of the parser. A test fails if the field disappears. */
function countAttributes({ tokenizer }: Parser<TreeTypes>): number {
  const { currentToken } = tokenizer as unknown as { currentToken: { attrs?: unknown[] } | null };
  return currentToken?.attrs?.length ?? 0;
}

/** Creates the parser's tree adapter, which aborts when the tree grows too large. */
function createLimitedAdapter(): TreeAdapter<TreeTypes> {
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
