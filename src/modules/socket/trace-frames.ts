import { type Problem, problemCodes } from "../../lib/problem.ts";
import { failSpan, SpanKind, type Tracing } from "../../lib/tracing/tracing.ts";
import type { ClientFrame, ClientFrameType } from "../../protocol/frames.ts";
import type { Connection } from "./connection.ts";

/** Frequent frames that cause very little work. */
const untracedTypes = new Set<ClientFrameType>(["ping", "typing.start", "typing.stop"]);

/** Processes a frame. Returns the error that was sent, if any. */
type HandleFrame = (connection: Connection, frame: ClientFrame) => Promise<Problem | undefined>;

/** Wraps `handle` so that each frame is recorded in a new trace, which links to the request that opened the socket. */
export function createFrameTracer(tracing: Tracing | null, handle: HandleFrame): HandleFrame {
  if (!tracing) return handle;
  return async (connection, frame) => {
    if (untracedTypes.has(frame.type)) return handle(connection, frame);
    const span = tracing.start(frame.type, {
      kind: SpanKind.SERVER,
      parent: null,
      ...(connection.trace && { links: [connection.trace] }),
      attributes: { "network.protocol.name": "websocket", "parley.request_id": connection.requestId },
    });
    try {
      const problem = await tracing.within(span, () => handle(connection, frame));
      if (problem) span.setAttribute("error.type", problem.code);
      // As with HTTP, client errors don't count as server failures.
      if (problem && problemCodes[problem.code].status >= 500) failSpan(span, problem.code);
      return problem;
    } finally {
      span.end();
    }
  };
}
