import { EventEmitter } from "node:events";
import postgres from "postgres";
import type { StatementListener } from "../../src/db/client.ts";

const message = (type: string, body: Buffer): Buffer => {
  const head = Buffer.alloc(5);
  head.write(type);
  head.writeUInt32BE(body.length + 4, 1);
  return Buffer.concat([head, body]);
};
const int16 = (value: number) => Buffer.from([value >> 8, value & 0xff]);
const int32 = (value: number) => Buffer.concat([int16(value >>> 16), int16(value & 0xffff)]);
const TEXT_TYPE = 25;

const authenticated = message("R", int32(0));
export const ready = message("Z", Buffer.from("I"));
const complete = message("C", Buffer.from("SELECT 1\0"));
const describeText = message(
  "T",
  Buffer.concat([
    int16(1),
    Buffer.from("text\0"),
    int32(0),
    int16(0),
    int32(TEXT_TYPE),
    int16(-1),
    int32(-1),
    int16(0),
  ]),
);
const textRow = (text: string) =>
  message("D", Buffer.concat([int16(1), int32(Buffer.byteLength(text)), Buffer.from(text)]));
const describeNothing = Buffer.concat([message("t", int16(0)), message("n", Buffer.alloc(0))]);

/** A server error that ends the connection. */
export const administratorError = message(
  "E",
  Buffer.from("SFATAL\0C57P01\0Mterminating connection due to administrator command\0\0"),
);

/** The server waits for the rows of a COPY in the text format. */
export const copyIn = message("G", Buffer.from([0, 0, 0]));
/** The rows of a COPY to the client, and its end. */
export const copyOut = message("H", Buffer.from([0, 0, 0]));
export const copyRow = (text: string) => message("d", Buffer.from(text));
export const copyDone = message("c", Buffer.alloc(0));
export const copied = message("C", Buffer.from("COPY 2\0"));
/** An error that ends a statement. */
export const uniqueViolation = message("E", Buffer.from("SERROR\0C23505\0Mduplicate key value\0\0"));

/** One connection as the driver sees it; a test can break it. */
export class ScriptedSocket extends EventEmitter {
  readyState = "open";
  /** The statements that arrived through `unsafe`, and the number of others: the driver's own. */
  readonly statements: string[] = [];
  ownCount = 0;
  isSilent: boolean;
  isPaused = false;
  readonly #isClosing: boolean;
  #isStarted = false;

  /** @param isClosing closes at the first message, in mid-handshake. @param isSilent never responds after it. */
  constructor({ isClosing, isSilent }: { isClosing: boolean; isSilent: boolean }) {
    super();
    this.#isClosing = isClosing;
    this.isSilent = isSilent;
  }

  write(bytes: Buffer): boolean {
    setImmediate(() => this.#read(Buffer.from(bytes)));
    return true;
  }

  reply(...messages: Buffer[]): void {
    this.emit("data", Buffer.concat(messages));
  }

  /** Responds to a statement that had no response yet. */
  answer(text: string): void {
    this.reply(describeText, textRow(text), complete, ready);
  }

  /** As if the server closed it. */
  close(hadError = false): void {
    if (this.readyState === "closed") return;
    this.readyState = "closed";
    this.emit("close", hadError);
  }

  pause = (): void => void Object.assign(this, { isPaused: true });
  resume = (): void => void Object.assign(this, { isPaused: false });
  end = (): void => this.close();
  destroy = (): void => this.close();

  #read(bytes: Buffer): void {
    if (this.readyState === "closed") return;
    if (this.#isClosing) {
      this.close();
      return;
    }
    if (!this.#isStarted) {
      this.#isStarted = true;
      this.reply(authenticated, ready);
      return;
    }
    for (let at = 0; at < bytes.length; at += 1 + bytes.readUInt32BE(at + 1)) {
      const body = bytes.subarray(at + 5, at + 1 + bytes.readUInt32BE(at + 1));
      this.#answer(String.fromCharCode(bytes[at] ?? 0), body);
    }
  }

  #answer(type: string, body: Buffer): void {
    const text = body.toString("utf8", 0, body.indexOf(0));
    if (type === "Q") this.statements.push(text);
    if (type === "P") this.ownCount += 1;
    if (this.isSilent) return;
    const answers: Record<string, Buffer[]> = {
      // The response contains the statement's text, so that a mix-up is detected.
      Q: [describeText, textRow(text), complete, ready],
      P: [message("1", Buffer.alloc(0))],
      D: [describeNothing],
      B: [message("2", Buffer.alloc(0))],
      E: [complete],
      S: [ready],
    };
    this.reply(...(answers[type] ?? []));
  }
}

/**
 * The driver with a fake Postgres in this process, so that a connection breaks exactly where a test wants it.
 * Statements are sent with `unsafe`.
 */
export function createScriptedPostgres({
  poolSize = 1,
  fetchesTypes = false,
  prepare = true,
  onstatement,
  waitingMax,
}: {
  poolSize?: number;
  fetchesTypes?: boolean;
  prepare?: boolean;
  onstatement?: StatementListener;
  waitingMax?: number;
} = {}) {
  const sockets: ScriptedSocket[] = [];
  /** The options of sockets opened from now on. */
  const server = { isClosing: false, isSilent: false };
  const sql = postgres({
    max: poolSize,
    fetch_types: fetchesTypes,
    backoff: false,
    prepare,
    // Missing in its types.
    ...({
      onstatement,
      max_waiting: waitingMax,
      socket() {
        const socket = new ScriptedSocket(server);
        sockets.push(socket);
        return socket;
      },
    } as object),
  });
  return {
    sql,
    server,
    sockets,
    /** The text of a statement's response. */
    ask: async (statement: string, by: Pick<typeof sql, "unsafe"> = sql): Promise<string[]> =>
      (await by.unsafe<{ text: string }[]>(statement)).map(({ text }) => text),
    getSocket(index: number): ScriptedSocket {
      const socket = sockets.at(index);
      if (!socket) throw new Error(`No socket ${index} yet.`);
      return socket;
    },
  };
}
