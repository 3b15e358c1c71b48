import { type Static, Type } from "@sinclair/typebox";
import { Closed, Named } from "../lib/schema.ts";

/** Bytes of the schema of an answer, as JSON. */
export const REPLY_SCHEMA_BYTES_MAX = 16 * 1024;
const NAME_CHARS_MAX = 64;

/** What the answer of a model is to be: JSON that a schema accepts. */
export const ReplyFormat = Named(
  "ReplyFormat",
  Closed(
    {
      name: Type.Optional(
        Type.String({
          pattern: `^[a-zA-Z0-9_-]{1,${NAME_CHARS_MAX}}$`,
          description: `What the model is told it is: 1 to ${NAME_CHARS_MAX} letters, digits, \`_\` and \`-\`.`,
        }),
      ),
      schema: Type.Record(Type.String(), Type.Unknown(), {
        description: `JSON schema of the answer, ${REPLY_SCHEMA_BYTES_MAX / 1024} KiB at most.`,
      }),
    },
    { description: "The form of the answer: JSON that the schema accepts. It is parsed into `output`." },
  ),
);
export type ReplyFormat = Static<typeof ReplyFormat>;
