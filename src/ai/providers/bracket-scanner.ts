const QUOTE = 0x22;
const BACKSLASH = 0x5c;
/** `[` and `{` differ only in BRACKET_BIT, as do `]` and `}`. */
const OPENING = 0x5b;
const CLOSING = 0x5d;
const BRACKET_BIT = 0x20;

/** Whether a JSON object or array starts with this byte. */
export const isOpeningBracket = (byte: number): boolean => (byte & ~BRACKET_BIT) === OPENING;

/**
 * Returns a function that finds the end of a JSON document, which must start with a bracket. The function returns the index after
 * the last closing bracket, or -1 if that bracket isn't in the packet.
 */
export function createBracketScanner(): (packet: Uint8Array) => number {
  let depth = 0;
  let isInString = false;
  let isEscaped = false;

  function scanStringByte(byte: number): void {
    if (isEscaped) isEscaped = false;
    else if (byte === BACKSLASH) isEscaped = true;
    else if (byte === QUOTE) isInString = false;
  }

  return (packet) => {
    for (let index = 0; index < packet.length; index += 1) {
      const byte = packet[index] ?? 0;
      if (isInString) scanStringByte(byte);
      else if (byte === QUOTE) isInString = true;
      else if (isOpeningBracket(byte)) depth += 1;
      else if ((byte & ~BRACKET_BIT) === CLOSING) {
        depth -= 1;
        if (depth <= 0) return index + 1;
      }
    }
    return -1;
  };
}
