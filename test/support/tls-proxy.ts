import { connect } from "node:net";
import { createServer } from "node:tls";
import { afterTestRun } from "./after-test-run.ts";

/** Starts a proxy that terminates TLS in front of a server on this machine. Returns the proxy's port. */
export async function startTlsProxy({ cert, key }: { cert: string; key: string }, port: number): Promise<number> {
  const proxy = createServer({ cert, key }, (client) => {
    const server = connect(port, "127.0.0.1");
    client.on("error", () => server.destroy()).on("close", () => server.destroy());
    server.on("error", () => client.destroy()).on("close", () => client.destroy());
    server.pipe(client).pipe(server);
  });
  await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve));
  afterTestRun(() => void proxy.close());
  return (proxy.address() as { port: number }).port;
}
