/**
 * Replaces the text between the markers `<!-- name -->` and `<!-- /name -->`.
 * @throws if the markers are missing, so that generated text is never silently dropped.
 */
export function replaceMarkedSection(markdown: string, name: string, content: string): string {
  const [from, to] = [`<!-- ${name} -->`, `<!-- /${name} -->`];
  const start = markdown.indexOf(from);
  const end = markdown.indexOf(to);
  if (start === -1 || end < start) throw new Error(`The document has no ${from} … ${to}.`);
  return `${markdown.slice(0, start + from.length)}\n${content}\n${markdown.slice(end)}`;
}
