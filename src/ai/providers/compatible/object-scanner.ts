/** `blank`: only white space so far; `other`: not an object, so it has no end. */
type ScanState = "blank" | "open" | "complete" | "other";

const isSpace = (unit: number): boolean => unit === 0x20 || (unit >= 0x09 && unit <= 0x0d);

/**
 * Finds the end of a JSON object that arrives in pieces. Reads each character once, however many pieces. Only distinguishes
 * strings and brackets; the rest may be invalid JSON.
 */
export class ObjectScanner {
  state: ScanState = "blank";
  #depth = 0;
  #isInString = false;
  #isEscaped = false;

  /** Reads up to the end of the object; returns how much of `text` belongs to it. */
  read(text: string): number {
    let index = this.state === "blank" ? this.#begin(text) : 0;
    if (this.state === "blank" || this.state === "other") return text.length;
    while (index < text.length && this.state !== "complete") {
      this.#take(text.charCodeAt(index));
      index += 1;
    }
    return index;
  }

  #begin(text: string): number {
    let index = 0;
    while (index < text.length && isSpace(text.charCodeAt(index))) index += 1;
    if (index < text.length) this.state = text[index] === "{" ? "open" : "other";
    return index;
  }

  #take(unit: number): void {
    if (this.#isInString) this.#takeOfString(unit);
    else if (unit === 0x22) this.#isInString = true;
    else if (unit === 0x7b || unit === 0x5b) this.#depth += 1;
    else if (unit === 0x7d || unit === 0x5d) {
      this.#depth -= 1;
      if (this.#depth === 0) this.state = "complete";
    }
  }

  #takeOfString(unit: number): void {
    if (this.#isEscaped) this.#isEscaped = false;
    else if (unit === 0x5c) this.#isEscaped = true;
    else if (unit === 0x22) this.#isInString = false;
  }
}
