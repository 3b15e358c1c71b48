-- The W3C traceparent of the span that an answer belongs to, so that a successor continues its trace. Only set while traces
-- are on and recorded.
alter table generations add column traceparent text;
