import type { TSchema } from "@sinclair/typebox";
import { TypeCompiler } from "@sinclair/typebox/compiler";
import { isJsonType, type RawBody } from "../../http/body.ts";
import { isJsonObject, type Json, type JsonObject, parseJson } from "../../lib/json.ts";
import { createInvalidProblem, Problem } from "../../lib/problem.ts";
import { listSchemaErrors } from "../../lib/schema-errors.ts";
import { HookPost, SlackText } from "./model.ts";
import { isSlackFormat, parseSlackName, parseSlackText } from "./slack.ts";

/** A parsed post in any format. If `isSlack` is true, the response must look like Slack's. */
export type Post = { content: string; displayName: string | null; reply: boolean | null; isSlack: boolean };

const postCheck = TypeCompiler.Compile(HookPost);
const slackCheck = TypeCompiler.Compile(SlackText);

/**
 * Parses a post's body: JSON in Parley's format or Slack's, a form with one of them as `payload`, or plain text.
 * @throws Problem `malformed`, `invalid`, `unsupported_media_type`.
 */
export function parsePost({ text, type }: RawBody): Post {
  if (isJsonType(type)) return mapJson(parseJson(text));
  if (type === "text/plain") return mapJson(parseJson(JSON.stringify({ content: text })));
  if (type === "application/x-www-form-urlencoded" || type === "") {
    // curl sends this type for any `-d` body.
    if (text.trimStart().startsWith("{")) return mapJson(parseJson(text));
    if (type !== "") return parseForm(new URLSearchParams(text));
  }
  throw new Problem(
    "unsupported_media_type",
    "Send the body as application/json, application/x-www-form-urlencoded with `payload`, or text/plain.",
  );
}

const formFields = ["content", "display_name", "text", "username"] as const;

/** Parses a form. The field `payload` is JSON, as in Slack's format. If it is missing, the form's other fields are the post. */
function parseForm(form: URLSearchParams): Post {
  const payload = form.get("payload");
  if (payload !== null) return mapJson(parseJson(payload));
  const fields = formFields.flatMap((name) => (form.has(name) ? [[name, form.get(name)]] : []));
  return mapJson(parseJson(JSON.stringify(Object.fromEntries(fields))));
}

function mapJson(value: unknown): Post {
  const body = value as Json;
  if (!isJsonObject(body))
    throw createInvalidProblem("#", "Send a JSON object with `content`, or with Slack's `text`.");
  return isSlackFormat(body) ? mapSlack(body) : mapPost(body);
}

function mapPost(body: JsonObject): Post {
  checkSchema(postCheck, body);
  const { content, display_name, reply = null } = body as HookPost;
  const displayName = display_name?.trim() ?? null;
  if (displayName === "") throw createInvalidProblem("#/display_name", "display_name must not be empty.");
  return { content, displayName, reply, isSlack: false };
}

function mapSlack(body: JsonObject): Post {
  const content = parseSlackText(body);
  checkSchema(slackCheck, { text: content });
  const reply = typeof body.reply === "boolean" ? body.reply : null;
  return { content, displayName: parseSlackName(body), reply, isSlack: true };
}

function checkSchema(schema: ReturnType<typeof TypeCompiler.Compile<TSchema>>, value: unknown): void {
  if (schema.Check(value)) return;
  const errors = listSchemaErrors(schema.Errors(value), "body");
  throw new Problem("invalid", errors[0]?.detail ?? "The request is invalid.", { errors });
}
