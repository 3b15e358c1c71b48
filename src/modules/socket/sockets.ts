import { type Caller, showExpiry } from "../../access/caller.ts";
import type { OpenStreams } from "../../access/open-streams.ts";
import { requireScope } from "../../access/scopes.ts";
import { findTemporaryProblem } from "../../db/client.ts";
import type { Log } from "../../lib/log.ts";
import type { Metrics } from "../../lib/metrics.ts";
import { Problem, problemCodes } from "../../lib/problem.ts";
import type { Limits } from "../../limits/limits.ts";
import type { CloseReason } from "../../protocol/close-codes.ts";
import { type ClientFrame, type ClientFrameType, parseClientFrame, type UnreadFrame } from "../../protocol/frames.ts";
import { createErrorFrame } from "../../protocol/pushes.ts";
import { type CommandDependencies, createCommands, type FrameHandler, frameScopes } from "./commands.ts";
import type { Connection, Socket } from "./connection.ts";
import * as limits from "./limits.ts";
import { WaitingBytes } from "./waiting-frames.ts";

type Dependencies = CommandDependencies & {
  limits: Pick<Limits, "frames" | "sockets" | "countCaller">;
  openStreams: Pick<OpenStreams, "add">;
  log: Log;
  metrics: Metrics;
};

/** All WebSockets of this instance: reads and answers their frames, and closes sockets when necessary. */
export function createSockets(deps: Dependencies) {
  const { hub, inbox, typing, identify, limits: rates, openStreams, log, metrics } = deps;
  const commands = createCommands(deps);
  const connections = new Set<Connection>();
  const waitingBytes = new WaitingBytes();

  const sentCounters = new Map<string, { inc(): void }>();
  function countSent(type: string): void {
    const counter = sentCounters.get(type) ?? metrics.wsFrames.labels("out", type);
    sentCounters.set(type, counter);
    counter.inc();
  }

  /** @returns false if the user has too many sockets; this one is then closed. */
  function welcome(connection: Connection, caller: Caller): boolean {
    connection.caller = caller;
    if (!rates.sockets.hasRoom(caller.user.id)) {
      rates.sockets.refuse();
      connection.close("too_many_connections");
      return false;
    }
    const releaseSlot = rates.sockets.take(caller.user.id);
    const remove = openStreams.add(connection);
    connection.release = () => {
      remove();
      releaseSlot();
    };
    const { created_at, ...user } = caller.user;
    connection.answer({
      type: "ready",
      connection_id: connection.id,
      // Disabled users were refused before.
      user: { ...user, disabled: false, created_at: created_at.toISOString() },
      heartbeat_ms: limits.HEARTBEAT_MS,
      limits: limits.shownLimits,
      server_time: new Date().toISOString(),
    });
    return true;
  }

  /** The first frame of a connection without a credential: only `auth` is allowed. */
  async function authenticate(connection: Connection, frame: ClientFrame): Promise<void> {
    if (frame.type !== "auth") throw new Problem("unauthorized", "The first frame must be `auth`.");
    let caller: Caller;
    try {
      caller = await identify(frame.token, {
        ipAddress: connection.ipAddress,
        onBehalfOf: frame.on_behalf_of ?? null,
      });
    } catch (error) {
      // Temporary failures don't close the connection: the same credential may be accepted soon.
      if (!(error instanceof Problem) || problemCodes[error.code].temporary) throw error;
      connection.close(error.code === "forbidden" ? "forbidden" : "bad_credential");
      return;
    }
    if (welcome(connection, { ...caller, requestId: connection.requestId }) && frame.id !== undefined)
      connection.answer({ type: "ack", id: frame.id, expires_at: showExpiry(caller) });
  }

  async function handle(connection: Connection, frame: ClientFrame): Promise<void> {
    try {
      if (!connection.caller) return await authenticate(connection, frame);
      requireScope(connection.caller.scopes, frameScopes[frame.type]);
      // A message is rate-limited where it is stored: only there it is known whether a model responds.
      if (frame.type === "generation.regenerate") await rates.countCaller("ai", connection.caller);
      // The command map guarantees the matching frame type, which the compiler can't infer.
      const command = commands[frame.type] as FrameHandler<ClientFrameType>;
      const body = await command(connection, connection.caller, frame);
      if (body && frame.id !== undefined) connection.answerSoon({ type: "ack", id: frame.id, ...body });
    } catch (error) {
      fail(connection, error, frame.id ?? null);
      if (error instanceof Problem && error.violatedPolicies) countRefused(connection);
    }
  }

  /** Closes the connection after too many refused frames. */
  function countRefused(connection: Connection): void {
    if (connection.meter.refuse(Date.now())) connection.close("rate_limited");
  }

  /** Counts a frame, valid or not. @returns false if it was refused; the error has been sent then. */
  function admit(connection: Connection, type: string, id: string | null): boolean {
    const waitMs = rates.frames.take(connection.meter, connection.caller?.user.id ?? null, type);
    if (waitMs === 0) return true;
    metrics.rateLimited.inc({ limit: "frames" });
    const detail = `Too many frames. Try again in ${Math.ceil(waitMs / 1_000)} s.`;
    fail(connection, new Problem("rate_limited", detail, { retryAfterMs: waitMs }), id);
    countRefused(connection);
    return false;
  }

  function fail(connection: Connection, error: unknown, id: string | null): void {
    connection.answer(createErrorFrame(mapError(error, log), id));
  }

  /** Frames take effect in order; a message doesn't delay later frames, because its number reserves its place. */
  async function run(connection: Connection, first: ClientFrame): Promise<void> {
    connection.isBusy = true;
    for (let frame: ClientFrame | undefined = first; frame; frame = connection.waiting.take(waitingBytes)) {
      if (connection.isClosing) break;
      const handled = handle(connection, frame);
      if (frame.type !== "message.send" || !connection.caller) await handled;
    }
    connection.isBusy = false;
  }

  function receive(connection: Connection, data: string | Buffer): void {
    if (connection.isClosing) return;
    connection.lastSeenAtMs = Date.now();
    const about: UnreadFrame = { id: null };
    let frame: ClientFrame;
    try {
      if (typeof data !== "string") throw new Problem("malformed", "Frames must be text, one JSON object each.");
      frame = parseClientFrame(data, about);
    } catch (error) {
      metrics.wsFrames.inc({ direction: "in", type: "invalid" });
      if (!admit(connection, "invalid", about.id)) return;
      fail(connection, error, about.id);
      // A frame with a wrong field is a mistake; one that isn't a JSON object means another protocol.
      if (error instanceof Problem && error.code === "malformed") connection.violations += 1;
      if (connection.violations > limits.VIOLATIONS_MAX) connection.close("protocol_violation");
      return;
    }
    connection.violations = 0;
    metrics.wsFrames.inc({ direction: "in", type: frame.type });
    if (!admit(connection, frame.type, frame.id ?? null)) return;
    if (connection.isBusy) addWaiting(connection, frame, data.length);
    else void run(connection, frame);
  }

  function addWaiting(connection: Connection, frame: ClientFrame, bytes: number): void {
    if (connection.waiting.length >= limits.WAITING_FRAMES_MAX) {
      metrics.rateLimited.inc({ limit: "frames_waiting" });
      connection.close("rate_limited");
    } else if (waitingBytes.sum >= limits.WAITING_FRAMES_BYTES_MAX) {
      const retryAfterMs = Math.round(limits.OVERLOAD_RETRY_MIN_MS * (1 + Math.random()));
      fail(
        connection,
        new Problem("overloaded", "Too many frames are waiting. Try again later.", { retryAfterMs }),
        frame.id ?? null,
      );
    } else connection.waiting.add(frame, bytes, waitingBytes);
  }

  function leaveAll(connection: Connection): void {
    connection.closedAtMs ||= Date.now();
    connections.delete(connection);
    connection.waiting.clear(waitingBytes);
    connection.release();
    metrics.wsConnections.set(connections.size);
    typing.leave(connection);
    for (const conversationId of connection.subscriptions) hub.leave(conversationId, connection);
    connection.subscriptions.clear();
    inbox.unsubscribe(connection);
  }

  function findFault(connection: Connection, nowMs: number): CloseReason | null {
    if (!connection.caller) return nowMs - connection.openedAtMs > limits.AUTH_TIMEOUT_MS ? "no_credential" : null;
    if (connection.caller.expiresAtMs <= nowMs) return "token_expired";
    const wasSlow = connection.isSlow;
    connection.isSlow = connection.bufferedBytes() > limits.SLOW_BYTES_MAX;
    if (wasSlow && connection.isSlow) return "slow_consumer";
    const silentMs = nowMs - connection.lastSeenAtMs;
    if (silentMs > limits.HEARTBEAT_MS + limits.PONG_TIMEOUT_MS) return "no_pong";
    return null;
  }

  return {
    /** Checks every socket: heartbeat, expired tokens, slow readers, missing credentials. */
    sweep(nowMs = Date.now()): void {
      for (const connection of connections) {
        if (connection.isClosing) {
          if (nowMs - connection.closedAtMs > limits.CLOSE_TIMEOUT_MS) connection.terminate();
          continue;
        }
        const fault = findFault(connection, nowMs);
        if (fault) connection.close(fault);
        else if (nowMs - Math.max(connection.lastSeenAtMs, connection.pingedAtMs) > limits.HEARTBEAT_MS)
          connection.ping(nowMs);
      }
    },

    /** Asks all clients to reconnect elsewhere, and closes their sockets in batches, until `deadlineMs` (since 1970). */
    async drain(deadlineMs: number): Promise<void> {
      const all = [...connections];
      if (all.length === 0) return;
      const spreadMs = Math.max(0, Math.min(DRAIN_SPREAD_MS_MAX, (deadlineMs - Date.now()) / 2));
      for (const connection of all)
        connection.answer({
          type: "server.draining",
          reconnect_after_ms: Math.round(Math.random() * RECONNECT_SPREAD_MS),
        });
      const waves = Math.ceil(all.length / DRAIN_WAVE_SOCKETS);
      for (let wave = 0; wave < waves; wave += 1) {
        const sockets = all.slice(wave * DRAIN_WAVE_SOCKETS, (wave + 1) * DRAIN_WAVE_SOCKETS);
        await waitForSends(sockets, Math.min(deadlineMs, Date.now() + DRAIN_SENDS_MS));
        for (const connection of sockets) connection.close("draining");
        await Bun.sleep(wave + 1 < waves ? spreadMs / waves : 0);
      }
    },

    /** The runtime's WebSocket handlers, mounted on the server. */
    handlers: {
      open(socket: Socket): void {
        const { connection } = socket.data;
        connection.attach(socket, countSent);
        connections.add(connection);
        metrics.wsConnections.set(connections.size);
        if (connection.caller) welcome(connection, connection.caller);
      },
      message(socket: Socket, data: string | Buffer): void {
        receive(socket.data.connection, data);
      },
      pong(socket: Socket): void {
        socket.data.connection.lastSeenAtMs = Date.now();
      },
      close(socket: Socket): void {
        leaveAll(socket.data.connection);
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

/** Sockets closed per batch while draining. */
const DRAIN_WAVE_SOCKETS = 500;
/** The longest duration of all batches together. */
const DRAIN_SPREAD_MS_MAX = 5_000;
/** How long an uncommitted message may take to be acknowledged. */
const DRAIN_SENDS_MS = 1_000;
/** Clients reconnect within this time, spread randomly. */
const RECONNECT_SPREAD_MS = 3_000;

async function waitForSends(connections: Connection[], untilMs: number): Promise<void> {
  while (connections.some(({ sending }) => sending > 0) && Date.now() < untilMs) await Bun.sleep(5);
}

export type Sockets = ReturnType<typeof createSockets>;

function mapError(error: unknown, log: Log): Problem {
  if (error instanceof Problem) return error;
  const temporary = findTemporaryProblem(error);
  log[temporary ? "warn" : "error"]({ err: error }, "frame failed");
  return temporary ?? new Problem("internal", "Processing the frame failed. Try again.");
}
