import { type Caller, formatExpiry } from "../../access/caller.ts";
import type { OpenStreams } from "../../access/open-streams.ts";
import { requireScope } from "../../access/scopes.ts";
import { findTemporaryProblem } from "../../db/client.ts";
import type { Log } from "../../lib/log.ts";
import type { Metrics } from "../../lib/metrics.ts";
import { Problem, problemCodes } from "../../lib/problem.ts";
import type { Tracing } from "../../lib/tracing/tracing.ts";
import type { Limits } from "../../limits/limits.ts";
import type { CloseReason } from "../../protocol/close-codes.ts";
import { type ClientFrame, type ClientFrameType, type FrameContext, parseClientFrame } from "../../protocol/frames.ts";
import { createErrorFrame } from "../../protocol/pushes.ts";
import { type CommandDependencies, createFrameHandlers, type FrameHandler, frameScopes } from "./commands.ts";
import type { Connection, Socket } from "./connection.ts";
import * as limits from "./limits.ts";
import { QueuedBytes } from "./queued-frames.ts";
import { createFrameTracer } from "./trace-frames.ts";

type Dependencies = CommandDependencies & {
  limits: Pick<Limits, "frames" | "sockets" | "countCaller">;
  openStreams: Pick<OpenStreams, "add">;
  log: Log;
  metrics: Metrics;
  tracing: Tracing | null;
};

/** Manages all WebSockets of this instance: processes their frames, and closes them when necessary. */
export function createSockets(deps: Dependencies) {
  const { hub, inbox, typing, identify, limits: rateLimits, openStreams, log, metrics, tracing } = deps;
  const frameHandlers = createFrameHandlers(deps);
  const connections = new Set<Connection>();
  const queuedBytes = new QueuedBytes();

  const sentCounters = new Map<string, { inc(): void }>();
  function countSent(type: string): void {
    const counter = sentCounters.get(type) ?? metrics.wsFrames.labels("out", type);
    sentCounters.set(type, counter);
    counter.inc();
  }

  /**
   * Acquires a slot for an authenticated socket and sends `ready`.
   * @returns false if the user has too many sockets. In that case, the socket is closed.
   */
  function accept(connection: Connection, caller: Caller): boolean {
    connection.caller = caller;
    if (!rateLimits.sockets.hasFreeSlot(caller.user.id)) {
      rateLimits.sockets.countRejection();
      connection.close("too_many_connections");
      return false;
    }
    const releaseSlot = rateLimits.sockets.acquire(caller.user.id);
    const unregister = openStreams.add(connection);
    connection.releaseResources = () => {
      unregister();
      releaseSlot();
    };
    const { created_at, ...user } = caller.user;
    connection.sendFrame({
      type: "ready",
      connection_id: connection.id,
      // Disabled users can't authenticate.
      user: { ...user, disabled: false, created_at: created_at.toISOString() },
      heartbeat_ms: limits.HEARTBEAT_MS,
      limits: limits.announcedLimits,
      server_time: new Date().toISOString(),
    });
    return true;
  }

  /** Processes the first frame of an unauthenticated connection, which must be `auth`. */
  async function authenticate(connection: Connection, frame: ClientFrame): Promise<void> {
    if (frame.type !== "auth") throw new Problem("unauthorized", "The first frame must be `auth`.");
    let caller: Caller;
    try {
      caller = await identify(frame.token, {
        ipAddress: connection.ipAddress,
        onBehalfOf: frame.on_behalf_of ?? null,
      });
    } catch (error) {
      // Temporary failures don't close the connection, because the same credential may be accepted soon.
      if (!(error instanceof Problem) || problemCodes[error.code].temporary) throw error;
      connection.close(error.code === "forbidden" ? "forbidden" : "bad_credential");
      return;
    }
    if (accept(connection, { ...caller, requestId: connection.requestId }) && frame.id !== undefined)
      connection.sendFrame({ type: "ack", id: frame.id, expires_at: formatExpiry(caller) });
  }

  const handleTracedFrame = createFrameTracer(tracing, handleFrame);

  /** Processes a frame. Returns the error that was sent, if any. */
  async function handleFrame(connection: Connection, frame: ClientFrame): Promise<Problem | undefined> {
    try {
      if (!connection.caller) {
        await authenticate(connection, frame);
        return undefined;
      }
      requireScope(connection.caller.scopes, frameScopes[frame.type]);
      // Messages are rate-limited when they are stored, because only then is it known whether a model answers.
      if (frame.type === "generation.regenerate") await rateLimits.countCaller("ai", connection.caller);
      // TypeScript can't infer that the handler matches the frame type.
      const handler = frameHandlers[frame.type] as FrameHandler<ClientFrameType>;
      const body = await handler(connection, connection.caller, frame);
      if (body && frame.id !== undefined) connection.sendFrameSoon({ type: "ack", id: frame.id, ...body });
      return undefined;
    } catch (error) {
      const problem = mapError(error, log);
      sendError(connection, problem, frame.id ?? null);
      if (problem.violatedPolicies) recordRejection(connection);
      return problem;
    }
  }

  /** Records a rejected frame, and closes the connection if too many frames were rejected. */
  function recordRejection(connection: Connection): void {
    if (connection.meter.reject(Date.now())) connection.close("rate_limited");
  }

  /**
   * Applies the frame rate limit, which also counts invalid frames.
   * @returns false if the frame was rejected and the error has been sent.
   */
  function checkFrameRate(connection: Connection, type: string, id: string | null): boolean {
    const waitMs = rateLimits.frames.count(connection.meter, connection.caller?.user.id ?? null, type);
    if (waitMs === 0) return true;
    metrics.rateLimited.inc({ limit: "frames" });
    const detail = `Too many frames. Try again in ${Math.ceil(waitMs / 1_000)} s.`;
    sendError(connection, new Problem("rate_limited", detail, { retryAfterMs: waitMs }), id);
    recordRejection(connection);
    return false;
  }

  function sendError(connection: Connection, error: unknown, id: string | null): void {
    connection.sendFrame(createErrorFrame(mapError(error, log), id));
  }

  /**
   * Processes a frame and then the queued frames, in order. Doesn't wait for messages to be stored, because SendOrder keeps their
   * order.
   */
  async function processFrames(connection: Connection, firstFrame: ClientFrame): Promise<void> {
    connection.isBusy = true;
    for (let frame: ClientFrame | undefined = firstFrame; frame; frame = connection.queuedFrames.shift(queuedBytes)) {
      if (connection.isClosing) break;
      const handling = handleTracedFrame(connection, frame);
      if (frame.type !== "message.send" || !connection.caller) await handling;
    }
    connection.isBusy = false;
  }

  function receive(connection: Connection, data: string | Buffer): void {
    if (connection.isClosing) return;
    connection.lastSeenAtMs = Date.now();
    const frameContext: FrameContext = { id: null };
    let frame: ClientFrame;
    try {
      if (typeof data !== "string") throw new Problem("malformed", "Frames must be text, one JSON object each.");
      frame = parseClientFrame(data, frameContext);
    } catch (error) {
      metrics.wsFrames.inc({ direction: "in", type: "invalid" });
      if (!checkFrameRate(connection, "invalid", frameContext.id)) return;
      sendError(connection, error, frameContext.id);
      // An invalid field is a mistake in the client. But a frame that isn't a JSON object suggests that the client uses a different
      // protocol.
      if (error instanceof Problem && error.code === "malformed") connection.consecutiveViolations += 1;
      if (connection.consecutiveViolations > limits.VIOLATIONS_MAX) connection.close("protocol_violation");
      return;
    }
    connection.consecutiveViolations = 0;
    metrics.wsFrames.inc({ direction: "in", type: frame.type });
    if (!checkFrameRate(connection, frame.type, frame.id ?? null)) return;
    if (connection.isBusy) enqueueFrame(connection, frame, data.length);
    else void processFrames(connection, frame);
  }

  function enqueueFrame(connection: Connection, frame: ClientFrame, bytes: number): void {
    if (connection.queuedFrames.length >= limits.WAITING_FRAMES_MAX) {
      metrics.rateLimited.inc({ limit: "frames_waiting" });
      connection.close("rate_limited");
    } else if (queuedBytes.bytes >= limits.WAITING_FRAMES_BYTES_MAX) {
      const retryAfterMs = Math.round(limits.OVERLOAD_RETRY_MIN_MS * (1 + Math.random()));
      sendError(
        connection,
        new Problem("overloaded", "Too many frames are waiting. Try again later.", { retryAfterMs }),
        frame.id ?? null,
      );
    } else connection.queuedFrames.add(frame, bytes, queuedBytes);
  }

  function cleanUp(connection: Connection): void {
    connection.closedAtMs ||= Date.now();
    connections.delete(connection);
    connection.queuedFrames.clear(queuedBytes);
    connection.releaseResources();
    metrics.wsConnections.set(connections.size);
    typing.leave(connection);
    for (const conversationId of connection.subscriptions) hub.leave(conversationId, connection);
    connection.subscriptions.clear();
    inbox.unsubscribe(connection);
  }

  function findCloseReason(connection: Connection, nowMs: number): CloseReason | null {
    if (!connection.caller) return nowMs - connection.openedAtMs > limits.AUTH_TIMEOUT_MS ? "no_credential" : null;
    if (connection.caller.expiresAtMs <= nowMs) return "token_expired";
    const wasSlow = connection.wasSlowAtLastSweep;
    connection.wasSlowAtLastSweep = connection.getBufferedBytes() > limits.SLOW_BYTES_MAX;
    if (wasSlow && connection.wasSlowAtLastSweep) return "slow_consumer";
    const idleMs = nowMs - connection.lastSeenAtMs;
    if (idleMs > limits.HEARTBEAT_MS + limits.PONG_TIMEOUT_MS) return "no_pong";
    return null;
  }

  return {
    /** Closes sockets with missed heartbeats, expired tokens, slow clients or missing credentials. */
    sweep(nowMs = Date.now()): void {
      for (const connection of connections) {
        if (connection.isClosing) {
          if (nowMs - connection.closedAtMs > limits.CLOSE_TIMEOUT_MS) connection.terminate();
          continue;
        }
        const closeReason = findCloseReason(connection, nowMs);
        if (closeReason) connection.close(closeReason);
        else if (nowMs - Math.max(connection.lastSeenAtMs, connection.pingedAtMs) > limits.HEARTBEAT_MS)
          connection.ping(nowMs);
      }
    },

    /**
     * Asks all clients to reconnect to another instance, and closes their sockets in batches before `deadlineMs` (Unix time).
     */
    async drain(deadlineMs: number): Promise<void> {
      const openConnections = [...connections];
      if (openConnections.length === 0) return;
      const spreadMs = Math.max(0, Math.min(DRAIN_SPREAD_MS_MAX, (deadlineMs - Date.now()) / 2));
      for (const connection of openConnections)
        connection.sendFrame({
          type: "server.draining",
          reconnect_after_ms: Math.round(Math.random() * RECONNECT_DELAY_MS_MAX),
        });
      const batchCount = Math.ceil(openConnections.length / DRAIN_BATCH_SOCKETS);
      for (let batch = 0; batch < batchCount; batch += 1) {
        const batchConnections = openConnections.slice(batch * DRAIN_BATCH_SOCKETS, (batch + 1) * DRAIN_BATCH_SOCKETS);
        await waitForSends(batchConnections, Math.min(deadlineMs, Date.now() + DRAIN_ACK_WAIT_MS_MAX));
        for (const connection of batchConnections) connection.close("draining");
        await Bun.sleep(batch + 1 < batchCount ? spreadMs / batchCount : 0);
      }
    },

    /** The WebSocket handlers for Bun's server. */
    handlers: {
      open(socket: Socket): void {
        const { connection } = socket.data;
        connection.attach(socket, countSent);
        connections.add(connection);
        metrics.wsConnections.set(connections.size);
        if (connection.caller) accept(connection, connection.caller);
      },
      message(socket: Socket, data: string | Buffer): void {
        receive(socket.data.connection, data);
      },
      pong(socket: Socket): void {
        socket.data.connection.lastSeenAtMs = Date.now();
      },
      close(socket: Socket): void {
        cleanUp(socket.data.connection);
      },
      maxPayloadLength: limits.FRAME_BYTES_READ_MAX,
      backpressureLimit: limits.BACKPRESSURE_BYTES_MAX,
      closeOnBackpressureLimit: true,
      idleTimeout: 120,
      sendPings: false,
      perMessageDeflate: false,
    },
  };
}

/** Number of sockets closed per batch during shutdown. */
const DRAIN_BATCH_SOCKETS = 500;
/** Maximum time over which the closing of all sockets is spread at shutdown, in batches. */
const DRAIN_SPREAD_MS_MAX = 5_000;
/** Maximum time that a batch waits for the acknowledgements of uncommitted messages. */
const DRAIN_ACK_WAIT_MS_MAX = 1_000;
/** Maximum random delay before a client reconnects. */
const RECONNECT_DELAY_MS_MAX = 3_000;

async function waitForSends(connections: Connection[], untilMs: number): Promise<void> {
  while (connections.some(({ pendingSends }) => pendingSends > 0) && Date.now() < untilMs) await Bun.sleep(5);
}

export type Sockets = ReturnType<typeof createSockets>;

function mapError(error: unknown, log: Log): Problem {
  if (error instanceof Problem) return error;
  const temporaryProblem = findTemporaryProblem(error);
  log[temporaryProblem ? "warn" : "error"]({ err: error }, "frame failed");
  return temporaryProblem ?? new Problem("internal", "Processing the frame failed. Try again.");
}
