/** The startup parameters that PgBouncer accepts in addition to `ignore_startup_parameters`. */
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
 * Starts a fake PgBouncer in front of a Postgres socket. It rejects a connection with an unknown startup parameter,
 * removes ignored parameters, and relays everything else.
 */
export function startFakePooler(socketPath: string, ignoredParameters: string[]) {
  const rejectedParameters: string[] = [];
  const relay = Bun.listen<{ server?: Promise<Bun.Socket<undefined>> }>({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      open(client) {
        client.data = {};
      },
      async data(client, bytes) {
        if (client.data.server) return void (await client.data.server).write(bytes);
        // The startup message consists of its length, the protocol version, and zero-terminated names and values.
        const strings = Buffer.from(bytes).toString("utf8", 8).split("\0");
        const pairs: [string, string][] = [];
        for (let i = 0; i + 1 < strings.length && strings[i]; i += 2)
          pairs.push([strings[i] ?? "", strings[i + 1] ?? ""]);
        const unknownPair = pairs.find(
          ([name]) => !acceptedParameters.has(name.toLowerCase()) && !ignoredParameters.includes(name),
        );
        if (unknownPair) {
          rejectedParameters.push(unknownPair[0]);
          const text = `SFATAL\0C08P01\0Munsupported startup parameter: ${unknownPair[0]}\0\0`;
          client.write(createMessage("E", Buffer.from(text)));
          client.end();
          return;
        }
        const forwardedPairs = pairs.filter(([name]) => !ignoredParameters.includes(name));
        const body = Buffer.concat([
          Buffer.from([0, 3, 0, 0]),
          Buffer.from(`${forwardedPairs.map(([name, value]) => `${name}\0${value}\0`).join("")}\0`),
        ]);
        client.data.server = Bun.connect({
          unix: socketPath,
          socket: { data: (_server, response) => void client.write(response), close: () => void client.end() },
        });
        (await client.data.server).write(createMessage("", body));
      },
      async close(client) {
        (await client.data.server)?.end();
      },
    },
  });
  return { port: relay.port, rejectedParameters, stop: () => relay.stop(true) };
}

function createMessage(type: string, body: Buffer): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(body.length + 4);
  return Buffer.concat([Buffer.from(type), length, body]);
}
