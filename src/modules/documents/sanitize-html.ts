import { fromParse5 } from "hast-util-from-parse5";
import { type Schema, sanitize } from "hast-util-sanitize";
import { toHtml } from "hast-util-to-html";
import { parseHtml } from "./parse-html.ts";

type Nodes = ReturnType<typeof fromParse5>;
type Root = Extract<Nodes, { type: "root" }>;
type Element = Extract<Nodes, { type: "element" }>;

/** The prefix of every `id` and `name` in a document, so that none shadows a property of `document` or `window`. */
const ID_PREFIX = "user-content-";

const headingNames = ["h1", "h2", "h3", "h4", "h5", "h6"] as const;
const tableElements = ["caption", "colgroup", "thead", "tbody", "tfoot", "tr", "th", "td", "col"] as const;

/** The allowlist. Other elements are removed, but their text is kept, except in elements listed in `strip`. */
const schema: Schema = {
  tagNames: [
    ...headingNames,
    ...["p", "br", "hr", "div", "span", "blockquote", "pre", "ul", "ol", "li", "dl", "dt", "dd"],
    ...["details", "summary", "figure", "figcaption", "table", ...tableElements],
    ...["a", "img", "input", "b", "strong", "i", "em", "u", "s", "del", "ins", "mark", "small", "sub", "sup"],
    ...["code", "kbd", "samp", "var", "abbr", "cite", "dfn", "q", "time", "bdi", "wbr", "ruby", "rt", "rp"],
  ],
  ancestors: Object.fromEntries(tableElements.map((name) => [name, ["table"]])),
  attributes: {
    "*": ["id", "title", "lang", ["dir", "ltr", "rtl", "auto"]],
    a: ["href", "name"],
    img: ["src", "alt", "width", "height"],
    code: [["className", /^language-[\w+#.-]{1,40}$/]],
    input: [
      ["type", "checkbox"],
      ["disabled", true],
      ["checked", true],
      ["className", "task-list-item-checkbox"],
    ],
    li: [["className", "task-list-item"], "value"],
    ol: ["start", "reversed"],
    details: ["open"],
    th: [["align", "left", "right", "center"], "colSpan", "rowSpan", ["scope", "row", "col"]],
    td: [["align", "left", "right", "center"], "colSpan", "rowSpan"],
    time: ["dateTime"],
  },
  // Checkboxes are always disabled, so they can't be submitted.
  required: { input: { type: "checkbox", disabled: true } },
  protocols: { href: ["http", "https", "mailto"], src: ["http", "https"] },
  clobber: ["id", "name"],
  clobberPrefix: ID_PREFIX,
  // The content of these elements isn't readable text, or browsers parse it by special rules, which mutation XSS exploits.
  strip: [
    ...["script", "style", "template", "noscript", "svg", "math", "iframe", "frameset", "object", "embed", "applet"],
    ...["title", "textarea", "select", "button", "datalist", "xmp", "plaintext", "listing", "noembed", "noframes"],
    ...["audio", "video", "canvas", "portal", "fencedframe", "selectedcontent"],
  ],
  allowComments: false,
  allowDoctypes: false,
};

/** A heading outside lists and quotes. */
type DocumentHeading = { level: number; text: string };

type Options = {
  /** Returns the headings' anchors, in order. Called only for headings with an `id`. */
  createAnchors: (headings: DocumentHeading[]) => string[];
};

/**
 * Sanitizes HTML. Keeps only allowed elements and attributes, and links to the web, to email addresses and to relative URLs. Adds a prefix
 * to ids. The HTML is parsed and serialized, so that browsers can't interpret it differently.
 * @returns null if that would take too long.
 */
export function sanitizeHtml(html: string, { createAnchors }: Options): string | null {
  const parsed = parseHtml(html);
  if (parsed === null) return null;
  const tree = sanitize(fromParse5(parsed), schema);
  // If only one node remains, `sanitize` returns it without a root.
  const root: Root = tree.type === "root" ? tree : { type: "root", children: tree.type === "doctype" ? [] : [tree] };
  const elements = listElements(root);
  const headings = listHeadings(root);
  const slugs = createAnchors(
    headings.map((element) => ({ level: Number(element.tagName[1]), text: extractText(element) })),
  );
  // The renderer also adds ids to headings in lists and quotes, which the document's list of headings omits.
  for (const element of elements) if (isHeading(element)) delete element.properties.id;
  for (const [index, heading] of headings.entries()) heading.properties.id = slugs[index] ?? "";
  const ids = new Set(
    elements.flatMap(({ properties: { id, name } }) => [id, name].filter((value) => value !== undefined)),
  );
  for (const element of elements) secureElement(element, ids);
  return toHtml(root, { characterReferences: { useNamedReferences: true } });
}

const isHeading = ({ tagName }: Element): boolean => headingNames.some((name) => name === tagName);

function listHeadings(parent: Root | Element): Element[] {
  return parent.children.flatMap((child) => {
    if (child.type !== "element" || child.tagName === "li" || child.tagName === "blockquote") return [];
    return isHeading(child) && child.properties.id !== undefined ? [child] : listHeadings(child);
  });
}

function listElements(parent: Root | Element, elements: Element[] = []): Element[] {
  for (const child of parent.children) {
    if (child.type !== "element") continue;
    elements.push(child);
    listElements(child, elements);
  }
  return elements;
}

function extractText(node: Nodes): string {
  if (node.type === "text") return node.value;
  return "children" in node ? node.children.map(extractText).join("") : "";
}

/** Removes unsafe link targets. Parses them as browsers do, because the library only compares strings. */
function secureElement({ tagName, properties }: Element, ids: ReadonlySet<unknown>): void {
  if (Array.isArray(properties.className) && properties.className.length === 0) delete properties.className;
  if (tagName === "img" && !isSafeLink(String(properties.src ?? ""))) delete properties.src;
  if (tagName !== "a" || properties.href === undefined) return;
  const href = String(properties.href);
  if (!isSafeLink(href)) {
    delete properties.href;
    return;
  }
  properties.rel = ["noopener", "noreferrer", "nofollow"];
  // The document's own ids already have the prefix.
  const anchor = href.startsWith("#") ? decodeFragment(href) : "";
  if (!ids.has(anchor) && ids.has(ID_PREFIX + anchor)) properties.href = `#${ID_PREFIX}${href.slice(1)}`;
}

function decodeFragment(href: string): string {
  try {
    return decodeURIComponent(href.slice(1));
  } catch {
    return href.slice(1);
  }
}

/** A placeholder for the page's URL. */
const PLACEHOLDER_URL = "https://here.invalid/folder/page";

/**
 * Returns whether a link leads to the web, to an email address or to a relative URL, as parsed by browsers. Links to other hosts must
 * start with `http:` or `https:`, because `//host` looks like a path.
 */
export function isSafeLink(href: string): boolean {
  if (/\p{Cc}/u.test(href) || !URL.canParse(href, PLACEHOLDER_URL)) return false;
  const { protocol, host } = new URL(href, PLACEHOLDER_URL);
  if (/^(?:https?:\/\/|mailto:)/i.test(href)) return /^(?:https?|mailto):$/.test(protocol);
  return protocol === "https:" && host === "here.invalid" && !/^[^/?#]*:/.test(href);
}
