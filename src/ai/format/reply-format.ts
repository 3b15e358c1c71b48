import type { ReplyFormat } from "../../protocol/reply-format.ts";
import type { AnswerFormat } from "../provider.ts";
import { checkAnswerFormat, createUnableModel } from "./check-format.ts";

/** Providers want a name for every schema. */
const REPLY_NAME = "reply";

/** The format that a message asks for, in the words of models. */
export const mapReplyFormat = ({ name = REPLY_NAME, schema }: ReplyFormat): AnswerFormat => ({
  type: "json_schema",
  name,
  schema,
});

/** The models that may be asked. */
type Models = { models(): readonly { id: string }[]; canAnswerIn(format: AnswerFormat, model: string): boolean };

/** Checks what messages ask for: the schema, and whether the named model, or any, can answer in the format. */
export const createFormatCheck =
  (chain: Models) =>
  /** @throws Problem `invalid` */
  (asked: ReplyFormat, model: string | null): void => {
    const format = mapReplyFormat(asked);
    checkAnswerFormat(format, "#/reply_format/schema");
    const names = model === null ? chain.models().map(({ id }) => id) : [model];
    if (!names.some((name) => chain.canAnswerIn(format, name))) throw createUnableModel(model, "#/reply_format");
  };
