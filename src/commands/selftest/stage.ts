import type { Interrupted } from "./interrupted.ts";
import type { FaultyProvider } from "./provider/server.ts";
import type { TestUser } from "./rest.ts";
import type { Sandbox } from "./sandbox.ts";
import type { ServerProcess } from "./server.ts";

/** State that the checks share. The first check sets it; a check that restarts the server replaces `server`. */
export class Stage {
  #server: ServerProcess | null = null;
  #people: TestUsers | null = null;
  /** Set by the check that kills the server, for the checks after it. */
  interrupted: Interrupted | null = null;

  constructor(
    readonly sandbox: Sandbox,
    readonly provider: FaultyProvider,
  ) {}

  get server(): ServerProcess {
    if (this.#server === null) throw new Error("expected a running server, but none was started");
    return this.#server;
  }

  set server(server: ServerProcess) {
    this.#server = server;
  }

  get people(): TestUsers {
    if (this.#people === null) throw new Error("expected registered users, but none were registered");
    return this.#people;
  }

  set people(people: TestUsers) {
    this.#people = people;
  }
}

/** Two members of each conversation, and an outsider. */
export type TestUsers = { ada: TestUser; ben: TestUser; outsider: TestUser };
