/**
 * Replaces the text between the markers `<!-- name -->` and `<!-- /name -->`.
 * @throws if the markers are missing, so that generated text is never silently dropped.
 */
export function replaceMarkedSection(markdown: string, name: string, content: string): string {
  const [startMarker, endMarker] = [`<!-- ${name} -->`, `<!-- /${name} -->`];
  const start = markdown.indexOf(startMarker);
  const end = markdown.indexOf(endMarker);
  if (start === -1 || end < start) throw new Error(`The document has no ${startMarker} … ${endMarker}.`);
  return `${markdown.slice(0, start + startMarker.length)}\n${content}\n${markdown.slice(end)}`;
}
