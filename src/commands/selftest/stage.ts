import type { Interrupted } from "./interrupted.ts";
import type { FaultyProvider } from "./provider/server.ts";
import type { TestUser } from "./rest.ts";
import type { Sandbox } from "./sandbox.ts";
import type { ServerProcess } from "./server.ts";

/** What the checks share. The first one fills it; a check that replaces the server puts the next one here. */
export class Stage {
  #server: ServerProcess | null = null;
  #people: TestUsers | null = null;
  /** Left by the check that kills the server, for those that look at what comes after. */
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
