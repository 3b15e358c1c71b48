/** Returns a port that nothing listens on. */
export function findFreePort(): number {
  const server = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const { port } = server;
  server.stop(true);
  return port;
}

/** Replaces the ports in a page's text: after a colon, after `PORT=`, or in code that listens on a port. */
export function replacePorts(text: string, ports: Map<number, number>): string {
  let replacedText = text;
  for (const [port, freePort] of ports)
    replacedText = replacedText.replaceAll(
      new RegExp(`((?::|port: |P(?:ORT=|ort )|listen[( ]|Server\\(|http\\.server |\\("", ))${port}\\b`, "g"),
      `$1${freePort}`,
    );
  return replacedText;
}
