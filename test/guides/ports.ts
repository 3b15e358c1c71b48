/** A port that nothing listens on. */
export function findFreePort(): number {
  const server = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const { port } = server;
  server.stop(true);
  return port;
}

/** A page's text with its ports replaced: after a colon, `PORT=`, or where a program listens. */
export function replacePorts(text: string, ports: Map<number, number>): string {
  let replaced = text;
  for (const [port, free] of ports)
    replaced = replaced.replaceAll(
      new RegExp(`((?::|port: |P(?:ORT=|ort )|listen[( ]|Server\\(|http\\.server |\\("", ))${port}\\b`, "g"),
      `$1${free}`,
    );
  return replaced;
}
