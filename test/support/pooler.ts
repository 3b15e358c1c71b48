/** The startup parameters that PgBouncer accepts, in addition to those that it is configured to ignore. */
const acceptedParameters = new Set([
  "user",
  "database",
  "application_name",
  "client_encoding",
  "datestyle",
  "timezone",
  "standard_conforming_strings",
]);

/**
 * A fake PgBouncer in front of a socket that only handles startup parameters: it refuses the first unknown one, and
 * drops those that it ignores.
 */
export function startPooler(socketPath: string, ignored: string[]) {
  const refused: string[] = [];
  const relay = Bun.listen<{ server?: Promise<Bun.Socket<undefined>> }>({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      open(client) {
        client.data = {};
      },
      async data(client, bytes) {
        if (client.data.server) return void (await client.data.server).write(bytes);
        // The startup message: its length, the protocol, then zero-terminated names and values.
        const words = Buffer.from(bytes).toString("utf8", 8).split("\0");
        const pairs: [string, string][] = [];
        for (let i = 0; i + 1 < words.length && words[i]; i += 2) pairs.push([words[i] ?? "", words[i + 1] ?? ""]);
        const unknown = pairs.find(([name]) => !acceptedParameters.has(name.toLowerCase()) && !ignored.includes(name));
        if (unknown) {
          refused.push(unknown[0]);
          const text = `SFATAL\0C08P01\0Munsupported startup parameter: ${unknown[0]}\0\0`;
          client.write(frame("E", Buffer.from(text)));
          client.end();
          return;
        }
        const kept = pairs.filter(([name]) => !ignored.includes(name));
        const body = Buffer.concat([
          Buffer.from([0, 3, 0, 0]),
          Buffer.from(`${kept.map(([name, value]) => `${name}\0${value}\0`).join("")}\0`),
        ]);
        client.data.server = Bun.connect({
          unix: socketPath,
          socket: { data: (_server, answer) => void client.write(answer), close: () => void client.end() },
        });
        (await client.data.server).write(frame("", body));
      },
      async close(client) {
        (await client.data.server)?.end();
      },
    },
  });
  return { port: relay.port, refused, stop: () => relay.stop(true) };
}

function frame(type: string, body: Buffer): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(body.length + 4);
  return Buffer.concat([Buffer.from(type), length, body]);
}
