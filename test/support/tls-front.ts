import { connect } from "node:net";
import { createServer } from "node:tls";
import { atEndOfRun } from "./end-of-run.ts";

/** Terminates TLS in front of a server on this machine. @returns its port. */
export async function startTlsFront({ cert, key }: { cert: string; key: string }, port: number): Promise<number> {
  const front = createServer({ cert, key }, (client) => {
    const server = connect(port, "127.0.0.1");
    client.on("error", () => server.destroy()).on("close", () => server.destroy());
    server.on("error", () => client.destroy()).on("close", () => client.destroy());
    server.pipe(client).pipe(server);
  });
  await new Promise<void>((resolve) => front.listen(0, "127.0.0.1", resolve));
  atEndOfRun(() => void front.close());
  return (front.address() as { port: number }).port;
}
