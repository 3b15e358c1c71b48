import type { Interrupted } from "./interrupted.ts";
import type { FaultyProvider } from "./provider/server.ts";
import type { Account } from "./rest.ts";
import type { Sandbox } from "./sandbox.ts";
import type { Server } from "./server.ts";

/** What the checks share. The first one fills it; a check that replaces the server puts the next one here. */
export class Stage {
  #server: Server | null = null;
  #people: People | null = null;
  /** Left by the check that kills the server, for those that look at what comes after. */
  interrupted: Interrupted | null = null;

  constructor(
    readonly sandbox: Sandbox,
    readonly provider: FaultyProvider,
  ) {}

  get server(): Server {
    if (this.#server === null) throw new Error("expected a running server, but none was started");
    return this.#server;
  }

  set server(server: Server) {
    this.#server = server;
  }

  get people(): People {
    if (this.#people === null) throw new Error("expected registered users, but none were registered");
    return this.#people;
  }

  set people(people: People) {
    this.#people = people;
  }
}

/** Two members of each conversation, and an outsider. */
export type People = { ada: Account; ben: Account; outsider: Account };
