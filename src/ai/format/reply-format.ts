import type { ReplyFormat } from "../../protocol/reply-format.ts";
import type { AnswerFormat } from "../provider.ts";
import { checkAnswerFormat, createUnsupportedFormatProblem } from "./check-format.ts";

/** Providers require a name for every schema. */
const REPLY_NAME = "reply";

/** Maps a message's reply format to an answer format. */
export const mapReplyFormat = ({ name = REPLY_NAME, schema }: ReplyFormat): AnswerFormat => ({
  type: "json_schema",
  name,
  schema,
});

type Models = { listModels(): readonly { id: string }[]; canAnswerIn(format: AnswerFormat, model: string): boolean };

/** Returns a function that checks a message's reply format: its schema, and whether a model supports it. */
export const createFormatCheck =
  (chain: Models) =>
  /** @param model null if any model may be used. @throws Problem `invalid` */
  (replyFormat: ReplyFormat, model: string | null): void => {
    const format = mapReplyFormat(replyFormat);
    checkAnswerFormat(format, "#/reply_format/schema");
    const names = model === null ? chain.listModels().map(({ id }) => id) : [model];
    if (!names.some((name) => chain.canAnswerIn(format, name)))
      throw createUnsupportedFormatProblem(model, "#/reply_format");
  };
