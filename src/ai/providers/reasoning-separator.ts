/**
 * Puts a blank line between reasoning from different parts of a response: blocks, items and summaries.
 * @returns a function that returns the text to show for a piece.
 */
export function createReasoningSeparator(): (place: string | number, text: string) => string {
  let last: string | number | null = null;
  return (place, text) => {
    if (text === "") return "";
    const isFirst = last === null;
    const isSame = last === place;
    last = place;
    return isFirst || isSame ? text : `\n\n${text}`;
  };
}
