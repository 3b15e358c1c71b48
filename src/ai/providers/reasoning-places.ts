/**
 * Puts a blank line between pieces of reasoning from different places of a response: its blocks, items, and summaries.
 * @returns gives the text of a piece as it is to be shown.
 */
export function createReasoningPlaces(): (place: string | number, text: string) => string {
  let last: string | number | null = null;
  return (place, text) => {
    if (text === "") return "";
    const isFirst = last === null;
    const isSame = last === place;
    last = place;
    return isFirst || isSame ? text : `\n\n${text}`;
  };
}
