// The runtime's baseline: publishes a fixed string to all subscribers, without storage or authentication.
const frame = "x".repeat(Number(process.env.FRAME_BYTES));

const server = Bun.serve<object>({
  hostname: process.env.HOST ?? "127.0.0.1",
  port: Number(process.env.PORT),
  fetch(request, bunServer) {
    if (bunServer.upgrade(request, { data: {} })) return undefined;
    return new Response("ready");
  },
  websocket: {
    message(socket, text) {
      if (text === "hello") socket.send("ready");
      else if (text === "subscribe") {
        socket.subscribe("room");
        socket.send("ack");
      } else {
        server.publish("room", frame);
        socket.send("ack");
      }
    },
  },
});
process.on("SIGTERM", () => process.exit(0));
