/** `blank` means that only whitespace was scanned. `other` means that the text isn't an object. */
type ScanState = "blank" | "open" | "complete" | "other";

const isSpace = (unit: number): boolean => unit === 0x20 || (unit >= 0x09 && unit <= 0x0d);

/**
 * Finds the end of a JSON object that arrives in chunks, scanning each character only once. It only checks brackets and
 * strings, so the object may be invalid JSON.
 */
export class ObjectScanner {
  state: ScanState = "blank";
  #depth = 0;
  #isInString = false;
  #isEscaped = false;

  /** Scans up to the end of the object. Returns the length of the text that belongs to the object. */
  scan(text: string): number {
    let index = this.state === "blank" ? this.#skipWhitespace(text) : 0;
    if (this.state === "blank" || this.state === "other") return text.length;
    while (index < text.length && this.state !== "complete") {
      this.#scanUnit(text.charCodeAt(index));
      index += 1;
    }
    return index;
  }

  #skipWhitespace(text: string): number {
    let index = 0;
    while (index < text.length && isSpace(text.charCodeAt(index))) index += 1;
    if (index < text.length) this.state = text[index] === "{" ? "open" : "other";
    return index;
  }

  #scanUnit(unit: number): void {
    if (this.#isInString) this.#scanStringUnit(unit);
    else if (unit === 0x22) this.#isInString = true;
    else if (unit === 0x7b || unit === 0x5b) this.#depth += 1;
    else if (unit === 0x7d || unit === 0x5d) {
      this.#depth -= 1;
      if (this.#depth === 0) this.state = "complete";
    }
  }

  #scanStringUnit(unit: number): void {
    if (this.#isEscaped) this.#isEscaped = false;
    else if (unit === 0x5c) this.#isEscaped = true;
    else if (unit === 0x22) this.#isInString = false;
  }
}
