const QUOTE = 0x22;
const BACKSLASH = 0x5c;
/** `[` and `{`, `]` and `}`, without the bit in which they differ. */
const OPENING = 0x5b;
const CLOSING = 0x5d;
const BRACKET_BIT = 0x20;

/** Whether a JSON object or array starts with this byte. */
export const isOpeningBracket = (byte: number): boolean => (byte & ~BRACKET_BIT) === OPENING;

/**
 * Finds the end of a document that starts with a bracket: the index after its last closing bracket, or -1 until it arrives.
 */
export function createBracketScanner(): (packet: Uint8Array) => number {
  let depth = 0;
  let isText = false;
  let isEscaped = false;

  function scanText(byte: number): void {
    if (isEscaped) isEscaped = false;
    else if (byte === BACKSLASH) isEscaped = true;
    else if (byte === QUOTE) isText = false;
  }

  return (packet) => {
    for (let at = 0; at < packet.length; at += 1) {
      const byte = packet[at] ?? 0;
      if (isText) scanText(byte);
      else if (byte === QUOTE) isText = true;
      else if (isOpeningBracket(byte)) depth += 1;
      else if ((byte & ~BRACKET_BIT) === CLOSING) {
        depth -= 1;
        if (depth <= 0) return at + 1;
      }
    }
    return -1;
  };
}
