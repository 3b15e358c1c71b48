import type { Frame } from "../support/socket.ts";
import type { Rule } from "./record.ts";

type Text = { text: string; attempt: number; isWhole: boolean };

/** Assembles the texts of answers as a client does, and compares them with the stored ones. */
export class TextReader {
  readonly #texts = new Map<string, Text>();
  readonly #ended = new Set<string>();
  #hasSkipped = false;

  /** @param contents of the stored messages, by id. */
  constructor(
    readonly contents: ReadonlyMap<string, string>,
    readonly report: (rule: Rule, detail: string) => void,
  ) {}

  /**
   * After a reconnect the text so far is sent again, unless the answer has ended meanwhile.
   * @param hasSkipped whether the client may have missed messages.
   */
  reconnect(hasSkipped: boolean): void {
    this.#hasSkipped ||= hasSkipped;
    for (const text of this.#texts.values()) text.isWhole = false;
  }

  takeEvent({ type, data }: Frame, isPush: boolean): void {
    const id = data?.id ?? "";
    const content = data?.content ?? "";
    if (type === "message.created" && data?.role === "assistant") this.#begin(id, content, String(data.status), isPush);
    else if (type === "message.created") this.#check(id, content, type);
    else if (type === "message.completed") this.#end(id, content, isPush);
  }

  takeText(frame: Frame): void {
    const { type, attempt, offset, text } = frame;
    const id = String(frame.message_id);
    const known = this.#texts.get(id);
    const misplaced = this.#findMisplaced(frame, id, known);
    if (misplaced) this.report("wrong text", `${type} of attempt ${attempt} of ${id} came ${misplaced}`);
    if (!known || misplaced) return;
    if (type === "message.reset") known.text = "";
    else if (offset !== known.text.length)
      this.report("wrong text", `a delta of ${id} is at ${offset}, the text before it ends at ${known.text.length}`);
    known.attempt = Number(attempt);
    known.text += text;
    known.isWhole = true;
  }

  /** Why a delta or a reset is out of place, or null. */
  #findMisplaced({ type, attempt }: Frame, id: string, known: Text | undefined): string | null {
    if (this.#ended.has(id)) return "after its end";
    if (!known) return this.#hasSkipped ? null : "before its message";
    if (Number(attempt) < known.attempt) return `after attempt ${known.attempt}`;
    const isNew = known.attempt !== 0 && attempt !== known.attempt;
    return isNew && type === "message.delta" ? `after attempt ${known.attempt}, without a reset` : null;
  }

  #begin(id: string, content: string, status: string, isPush: boolean): void {
    const isStreaming = status === "streaming";
    // Recovered text may lag behind the writer until the next delta or reset.
    this.#texts.set(id, { text: content, attempt: 0, isWhole: isPush && isStreaming });
    // A finished answer is sent in its final state.
    if (!isStreaming) this.#check(id, content, "message.created");
  }

  #end(id: string, content: string, isPush: boolean): void {
    const known = this.#texts.get(id);
    this.#ended.add(id);
    this.#texts.delete(id);
    this.#check(id, content, "message.completed");
    // A recovered answer has the whole text instead of deltas.
    if (!known?.isWhole || !isPush) return;
    if (known.text !== content)
      this.report("wrong text", `the deltas of ${id} give ${show(known.text)}, the final text is ${show(content)}`);
  }

  #check(id: string, content: string, type: string): void {
    const stored = this.contents.get(id);
    if (stored !== content)
      this.report("wrong text", `${type} of ${id} has ${show(content)}, stored is ${show(stored)}`);
  }
}

const SHOWN_CHARS = 120;

function show(text: string | undefined): string {
  if (text === undefined || text.length <= SHOWN_CHARS) return JSON.stringify(text) ?? "nothing";
  return `${text.length} characters that end with ${JSON.stringify(text.slice(-SHOWN_CHARS))}`;
}
