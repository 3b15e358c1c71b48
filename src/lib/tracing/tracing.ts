import { AsyncLocalStorage } from "node:async_hooks";
import {
  type Attributes,
  type Context,
  ROOT_CONTEXT,
  type Span,
  type SpanContext,
  SpanKind,
  SpanStatusCode,
  TraceFlags,
  type Tracer,
  trace,
} from "@opentelemetry/api";

export type { Span, SpanContext } from "@opentelemetry/api";
export { SpanKind } from "@opentelemetry/api";

export type SpanOptions = {
  /** The default is INTERNAL. */
  kind?: SpanKind;
  attributes?: Attributes;
  /** The parent span. The default is the current span. If null, the span starts a new trace. */
  parent?: SpanContext | null | undefined;
  /** Related spans of other traces. */
  links?: readonly SpanContext[];
};

/**
 * Creates spans and propagates the current span through asynchronous calls. If tracing is off, null is used instead.
 */
export interface Tracing {
  /** Runs `work` in a new span, which is the current one until `work` has ended. Only the code of an error is recorded. */
  run<T>(name: string, options: SpanOptions, work: (span: Span) => T): T;
  /** Starts a span without making it current. The caller must end it. */
  start(name: string, options?: SpanOptions): Span;
  /** Runs `work` with this span as the current one. */
  within<T>(span: Span, work: () => T): T;
  /** Returns the current span if it is recorded and hasn't ended. */
  getRecordingSpan(): Span | undefined;
  /** Returns the context that another server needs to continue the trace. */
  getCurrentContext(): SpanContext | undefined;
  /** Returns the fields that identify the current span in log lines. */
  getLogFields(): { trace_id?: string; span_id?: string };
}

export function createTracing(tracer: Tracer): Tracing {
  const storage = new AsyncLocalStorage<Context>();

  const getCurrentSpan = (): Span | undefined => {
    const context = storage.getStore();
    return context && trace.getSpan(context);
  };

  function findParent(parent: SpanContext | null | undefined): Context {
    if (parent === null) return ROOT_CONTEXT;
    return parent ? trace.setSpanContext(ROOT_CONTEXT, parent) : (storage.getStore() ?? ROOT_CONTEXT);
  }

  const start: Tracing["start"] = (name, { kind = SpanKind.INTERNAL, attributes, parent, links } = {}) => {
    const options = {
      kind,
      ...(attributes && { attributes }),
      ...(links && { links: links.map((context) => ({ context })) }),
    };
    return tracer.startSpan(name, options, findParent(parent));
  };

  const within: Tracing["within"] = (span, work) => storage.run(trace.setSpan(ROOT_CONTEXT, span), work);

  return {
    start,
    within,
    run(name, options, work) {
      const span = start(name, options);
      return within(span, () => runAndEndSpan(span, () => work(span)));
    },
    getRecordingSpan() {
      const span = getCurrentSpan();
      return span?.isRecording() ? span : undefined;
    },
    getCurrentContext: () => getCurrentSpan()?.spanContext(),
    getLogFields() {
      const context = getCurrentSpan()?.spanContext();
      return context ? { trace_id: context.traceId, span_id: context.spanId } : {};
    },
  };
}

/** Runs `work`, in a span if tracing is on. */
export const runTraced = <T>(tracing: Tracing | null, name: string, options: SpanOptions, work: () => T): T =>
  tracing ? tracing.run(name, options, work) : work();

/** Whether the spans of this trace are recorded. */
export const isSampled = ({ traceFlags }: SpanContext): boolean => (traceFlags & TraceFlags.SAMPLED) !== 0;

/** Marks a span as failed. @param type an error code or a class name. It must not contain users' text. */
export function failSpan(span: Span, type: string): void {
  span.setAttribute("error.type", type);
  span.setStatus({ code: SpanStatusCode.ERROR });
}

/** Returns the `error.type` of an error: its code, such as `not_found` or `ECONNREFUSED`, or its class. */
export function getErrorType(error: unknown): string {
  const { code } = (error ?? {}) as { code?: unknown };
  if (typeof code === "string" && /^\w{1,64}$/.test(code)) return code;
  return error instanceof Error ? error.name : "_OTHER";
}

/** Ends the span when `work` has ended, which may be asynchronous. */
function runAndEndSpan<T>(span: Span, work: () => T): T {
  const fail = (error: unknown): never => {
    failSpan(span, getErrorType(error));
    span.end();
    throw error;
  };
  let result: T;
  try {
    result = work();
  } catch (error) {
    return fail(error);
  }
  if (!(result instanceof Promise)) {
    span.end();
    return result;
  }
  const endedResult = result.then((value) => {
    span.end();
    return value;
  }, fail);
  return endedResult as T;
}
