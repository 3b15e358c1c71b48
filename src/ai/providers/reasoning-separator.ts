/**
 * Returns a function that inserts a blank line between the reasoning of different blocks. The function accepts a block's key
 * and a chunk of the block's text, and returns the text to show.
 */
export function createReasoningSeparator(): (blockKey: string | number, text: string) => string {
  let lastKey: string | number | null = null;
  return (blockKey, text) => {
    if (text === "") return "";
    const isFirstBlock = lastKey === null;
    const isSameBlock = lastKey === blockKey;
    lastKey = blockKey;
    return isFirstBlock || isSameBlock ? text : `\n\n${text}`;
  };
}
