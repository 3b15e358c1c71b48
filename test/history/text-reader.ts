import type { Frame } from "../support/socket.ts";
import type { Rule } from "./history.ts";

type AnswerText = { text: string; attempt: number; isComplete: boolean };

/** Assembles each answer's text as a client does, and compares it with the stored text. */
export class TextReader {
  readonly #answers = new Map<string, AnswerText>();
  readonly #finishedIds = new Set<string>();
  #mayHaveMissedEvents = false;

  /** @param contents the stored messages' contents by message ID. */
  constructor(
    readonly contents: ReadonlyMap<string, string>,
    readonly report: (rule: Rule, detail: string) => void,
  ) {}

  /**
   * Prepares for a reconnect, after which the text of each answer in progress is sent again.
   * @param mayHaveMissedEvents whether the client may have missed events.
   */
  reconnect(mayHaveMissedEvents: boolean): void {
    this.#mayHaveMissedEvents ||= mayHaveMissedEvents;
    for (const answer of this.#answers.values()) answer.isComplete = false;
  }

  handleEvent({ type, data }: Frame, isPush: boolean): void {
    const id = data?.id ?? "";
    const content = data?.content ?? "";
    if (type === "message.created" && data?.role === "assistant")
      this.#startAnswer(id, content, String(data.status), isPush);
    else if (type === "message.created") this.#checkText(id, content, type);
    else if (type === "message.completed") this.#finishAnswer(id, content, isPush);
  }

  handleText(frame: Frame): void {
    const { type, attempt, offset, text } = frame;
    const id = String(frame.message_id);
    const answer = this.#answers.get(id);
    const problem = this.#findProblem(frame, id, answer);
    if (problem) this.report("incorrect text", `${type} of attempt ${attempt} of ${id} arrived ${problem}`);
    if (!answer || problem) return;
    if (type === "message.reset") answer.text = "";
    else if (offset !== answer.text.length)
      this.report(
        "incorrect text",
        `a delta of ${id} is at ${offset}, but the text before it ends at ${answer.text.length}`,
      );
    answer.attempt = Number(attempt);
    answer.text += text;
    answer.isComplete = true;
  }

  /** Returns why a delta or a reset must not arrive at this point, or null if it may. */
  #findProblem({ type, attempt }: Frame, id: string, answer: AnswerText | undefined): string | null {
    if (this.#finishedIds.has(id)) return "after its end";
    if (!answer) return this.#mayHaveMissedEvents ? null : "before its message";
    if (Number(attempt) < answer.attempt) return `after attempt ${answer.attempt}`;
    const isNew = answer.attempt !== 0 && attempt !== answer.attempt;
    return isNew && type === "message.delta" ? `after attempt ${answer.attempt}, without a reset` : null;
  }

  #startAnswer(id: string, content: string, status: string, isPush: boolean): void {
    const isStreaming = status === "streaming";
    // Recovered text can be incomplete until the next delta or reset.
    this.#answers.set(id, { text: content, attempt: 0, isComplete: isPush && isStreaming });
    // A finished answer is sent in its final state.
    if (!isStreaming) this.#checkText(id, content, "message.created");
  }

  #finishAnswer(id: string, content: string, isPush: boolean): void {
    const answer = this.#answers.get(id);
    this.#finishedIds.add(id);
    this.#answers.delete(id);
    this.#checkText(id, content, "message.completed");
    // A recovered answer has its full text instead of deltas.
    if (!answer?.isComplete || !isPush) return;
    if (answer.text !== content)
      this.report(
        "incorrect text",
        `the deltas of ${id} are ${formatExcerpt(answer.text)}, but the final text is ${formatExcerpt(content)}`,
      );
  }

  #checkText(id: string, content: string, type: string): void {
    const stored = this.contents.get(id);
    if (stored !== content)
      this.report(
        "incorrect text",
        `${type} of ${id} has ${formatExcerpt(content)}, but ${formatExcerpt(stored)} is stored`,
      );
  }
}

const EXCERPT_CHARS = 120;

function formatExcerpt(text: string | undefined): string {
  if (text === undefined || text.length <= EXCERPT_CHARS) return JSON.stringify(text) ?? "nothing";
  return `${text.length} characters that end with ${JSON.stringify(text.slice(-EXCERPT_CHARS))}`;
}
