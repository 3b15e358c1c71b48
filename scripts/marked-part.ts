/**
 * Inserts generated text between its markers, `<!-- name -->` and `<!-- /name -->`.
 * @throws if the markers are missing, so that a section is never silently lost.
 */
export function placeMarkedPart(markdown: string, name: string, part: string): string {
  const [from, to] = [`<!-- ${name} -->`, `<!-- /${name} -->`];
  const start = markdown.indexOf(from);
  const end = markdown.indexOf(to);
  if (start === -1 || end < start) throw new Error(`The document has no ${from} … ${to}.`);
  return `${markdown.slice(0, start + from.length)}\n${part}\n${markdown.slice(end)}`;
}
