/**
 * Returns a function that inserts a blank line between the reasoning of different blocks. The function takes a block's key and
 * a chunk of the block's text, and returns the text to show.
 */
export function createReasoningSeparator(): (blockKey: string | number, text: string) => string {
  let lastKey: string | number | null = null;
  return (blockKey, text) => {
    if (text === "") return "";
    const isFirst = lastKey === null;
    const isSame = lastKey === blockKey;
    lastKey = blockKey;
    return isFirst || isSame ? text : `\n\n${text}`;
  };
}
