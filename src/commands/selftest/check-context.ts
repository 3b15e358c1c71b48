import type { InterruptedWork } from "./interrupted-work.ts";
import type { FaultyProvider } from "./provider/server.ts";
import type { TestUser } from "./rest.ts";
import type { Sandbox } from "./sandbox.ts";
import type { ServerProcess } from "./server.ts";

/** The state that the checks share. The first check sets the server and the users. Checks that restart the server replace it. */
export class CheckContext {
  #server: ServerProcess | null = null;
  #users: TestUsers | null = null;
  /** Set by the check `kill`, for the checks that run after it. */
  interruptedWork: InterruptedWork | null = null;

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

  get users(): TestUsers {
    if (this.#users === null) throw new Error("expected registered users, but none were registered");
    return this.#users;
  }

  set users(users: TestUsers) {
    this.#users = users;
  }
}

/** Two users who are members of each conversation, and an outsider. */
export type TestUsers = { ada: TestUser; ben: TestUser; outsider: TestUser };
