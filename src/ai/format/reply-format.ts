import type { ReplyFormat } from "../../protocol/reply-format.ts";
import type { AnswerFormat } from "../provider.ts";
import { checkAnswerFormat, createUnsupportedFormat } from "./check-format.ts";

/** Providers require a name for every schema. */
const REPLY_NAME = "reply";

/** Maps a message's reply format to the format that models receive. */
export const mapReplyFormat = ({ name = REPLY_NAME, schema }: ReplyFormat): AnswerFormat => ({
  type: "json_schema",
  name,
  schema,
});

/** The configured models. */
type Models = { models(): readonly { id: string }[]; canAnswerIn(format: AnswerFormat, model: string): boolean };

/** Checks a message's reply format: the schema, and whether the named model, or any model, supports it. */
export const createFormatCheck =
  (chain: Models) =>
  /** @throws Problem `invalid` */
  (replyFormat: ReplyFormat, model: string | null): void => {
    const format = mapReplyFormat(replyFormat);
    checkAnswerFormat(format, "#/reply_format/schema");
    const names = model === null ? chain.models().map(({ id }) => id) : [model];
    if (!names.some((name) => chain.canAnswerIn(format, name))) throw createUnsupportedFormat(model, "#/reply_format");
  };
