import { type Problem, problemCodes } from "../../lib/problem.ts";
import { failSpan, SpanKind, type Tracing } from "../../lib/tracing/tracing.ts";
import type { ClientFrame, ClientFrameType } from "../../protocol/frames.ts";
import type { Connection } from "./connection.ts";

/** Frequent frames that do next to nothing. */
const quietTypes = new Set<ClientFrameType>(["ping", "typing.start", "typing.stop"]);

/** @returns the error that was sent; undefined if there was none. */
type HandleFrame = (connection: Connection, frame: ClientFrame) => Promise<Problem | undefined>;

/** Handles each frame in a span and a trace of its own, which links to the request that opened the socket. */
export function createTraceFrame(tracing: Tracing | null, handle: HandleFrame): HandleFrame {
  if (!tracing) return handle;
  return async (connection, frame) => {
    if (quietTypes.has(frame.type)) return handle(connection, frame);
    const span = tracing.start(frame.type, {
      kind: SpanKind.SERVER,
      parent: null,
      ...(connection.trace && { links: [connection.trace] }),
      attributes: { "network.protocol.name": "websocket", "parley.request_id": connection.requestId },
    });
    try {
      const problem = await tracing.within(span, () => handle(connection, frame));
      if (problem) span.setAttribute("error.type", problem.code);
      // As with HTTP: a caller's mistake isn't a failure of the server.
      if (problem && problemCodes[problem.code].status >= 500) failSpan(span, problem.code);
      return problem;
    } finally {
      span.end();
    }
  };
}
