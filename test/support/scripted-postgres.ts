import { EventEmitter } from "node:events";
import postgres from "postgres";
import type { StatementListener } from "../../src/db/client.ts";

const createMessage = (type: string, body: Buffer): Buffer => {
  const head = Buffer.alloc(5);
  head.write(type);
  head.writeUInt32BE(body.length + 4, 1);
  return Buffer.concat([head, body]);
};
const int16 = (value: number) => Buffer.from([value >> 8, value & 0xff]);
const int32 = (value: number) => Buffer.concat([int16(value >>> 16), int16(value & 0xffff)]);
const TEXT_TYPE = 25;

const authenticationOk = createMessage("R", int32(0));
export const readyForQuery = createMessage("Z", Buffer.from("I"));
const commandComplete = createMessage("C", Buffer.from("SELECT 1\0"));
const rowDescription = createMessage(
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
const createDataRow = (text: string) =>
  createMessage("D", Buffer.concat([int16(1), int32(Buffer.byteLength(text)), Buffer.from(text)]));
const noDescription = Buffer.concat([createMessage("t", int16(0)), createMessage("n", Buffer.alloc(0))]);

/** A server error that closes the connection. */
export const administratorError = createMessage(
  "E",
  Buffer.from("SFATAL\0C57P01\0Mterminating connection due to administrator command\0\0"),
);

/** Starts a COPY from the client, in text format. */
export const copyIn = createMessage("G", Buffer.from([0, 0, 0]));
/** Starts a COPY to the client, in text format. */
export const copyOut = createMessage("H", Buffer.from([0, 0, 0]));
export const copyRow = (text: string) => createMessage("d", Buffer.from(text));
export const copyDone = createMessage("c", Buffer.alloc(0));
export const copyComplete = createMessage("C", Buffer.from("COPY 2\0"));
/** A server error that makes only the statement fail. */
export const uniqueViolation = createMessage("E", Buffer.from("SERROR\0C23505\0Mduplicate key value\0\0"));

/** A fake socket that is passed to the driver. A test controls one connection through it. */
export class ScriptedSocket extends EventEmitter {
  readyState = "open";
  /** The statements sent with `unsafe`. */
  readonly statements: string[] = [];
  /** The number of statements that the driver sent by itself. */
  driverStatementCount = 0;
  isUnresponsive: boolean;
  isPaused = false;
  readonly #closeDuringHandshake: boolean;
  #isStarted = false;

  constructor({ closeDuringHandshake, isUnresponsive }: { closeDuringHandshake: boolean; isUnresponsive: boolean }) {
    super();
    this.#closeDuringHandshake = closeDuringHandshake;
    this.isUnresponsive = isUnresponsive;
  }

  write(bytes: Buffer): boolean {
    setImmediate(() => this.#read(Buffer.from(bytes)));
    return true;
  }

  sendMessages(...messages: Buffer[]): void {
    this.emit("data", Buffer.concat(messages));
  }

  /** Sends the response to a pending statement. */
  respond(text: string): void {
    this.sendMessages(rowDescription, createDataRow(text), commandComplete, readyForQuery);
  }

  /** Closes the connection as if the server had closed it. */
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
    if (this.#closeDuringHandshake) {
      this.close();
      return;
    }
    if (!this.#isStarted) {
      this.#isStarted = true;
      this.sendMessages(authenticationOk, readyForQuery);
      return;
    }
    for (let start = 0; start < bytes.length; start += 1 + bytes.readUInt32BE(start + 1)) {
      const body = bytes.subarray(start + 5, start + 1 + bytes.readUInt32BE(start + 1));
      this.#respondTo(String.fromCharCode(bytes[start] ?? 0), body);
    }
  }

  #respondTo(type: string, body: Buffer): void {
    const text = body.toString("utf8", 0, body.indexOf(0));
    if (type === "Q") this.statements.push(text);
    if (type === "P") this.driverStatementCount += 1;
    if (this.isUnresponsive) return;
    const responses: Record<string, Buffer[]> = {
      // The response contains the statement, so that tests can detect responses to the wrong statement.
      Q: [rowDescription, createDataRow(text), commandComplete, readyForQuery],
      P: [createMessage("1", Buffer.alloc(0))],
      D: [noDescription],
      B: [createMessage("2", Buffer.alloc(0))],
      E: [commandComplete],
      S: [readyForQuery],
    };
    this.sendMessages(...(responses[type] ?? []));
  }
}

/**
 * Connects the driver to a fake Postgres in this process, so that a test controls when each connection breaks. Tests must
 * send statements with `query` or `unsafe`.
 */
export function createScriptedPostgres({
  poolSize = 1,
  fetchTypes = false,
  prepare = true,
  onstatement,
  waitingMax,
}: {
  poolSize?: number;
  fetchTypes?: boolean;
  prepare?: boolean;
  onstatement?: StatementListener;
  waitingMax?: number;
} = {}) {
  const sockets: ScriptedSocket[] = [];
  /** The options of new sockets. */
  const server = { closeDuringHandshake: false, isUnresponsive: false };
  const sql = postgres({
    max: poolSize,
    fetch_types: fetchTypes,
    backoff: false,
    prepare,
    // The driver's types don't include these options.
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
    /** Runs a statement and returns the text in the response. */
    query: async (statement: string, session: Pick<typeof sql, "unsafe"> = sql): Promise<string[]> =>
      (await session.unsafe<{ text: string }[]>(statement)).map(({ text }) => text),
    getSocket(index: number): ScriptedSocket {
      const socket = sockets.at(index);
      if (!socket) throw new Error(`Socket ${index} hasn't been opened.`);
      return socket;
    },
  };
}
