import { type Static, Type } from "@sinclair/typebox";
import { Closed, Named } from "../lib/schema.ts";

/** Maximum size of an answer's schema as JSON. */
export const REPLY_SCHEMA_BYTES_MAX = 16 * 1024;
const NAME_CHARS_MAX = 64;

/** The format required of a model's answer: JSON that matches a schema. */
export const ReplyFormat = Named(
  "ReplyFormat",
  Closed(
    {
      name: Type.Optional(
        Type.String({
          pattern: `^[a-zA-Z0-9_-]{1,${NAME_CHARS_MAX}}$`,
          description: `The name of the format, passed to the model: 1 to ${NAME_CHARS_MAX} letters, digits, \`_\` and \`-\`.`,
        }),
      ),
      schema: Type.Record(Type.String(), Type.Unknown(), {
        description: `JSON schema of the answer, up to ${REPLY_SCHEMA_BYTES_MAX / 1024} KiB.`,
      }),
    },
    { description: "The format of the answer: JSON that matches the schema. The parsed value is in `output`." },
  ),
);
export type ReplyFormat = Static<typeof ReplyFormat>;
