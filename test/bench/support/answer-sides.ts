import type { StreamsStep } from "../load/streams.ts";
import { register } from "./account.ts";
import {
  createTitledConversation,
  startNginx,
  startParleyWith,
  startPortkey,
  startProvider,
} from "./answer-servers.ts";
import { type Load, startLoad } from "./load.ts";
import type { Server } from "./servers.ts";

const QUESTION = "What is the answer to the question that everybody asks?";
/** Conversations that are created concurrently. */
const MAKING = 20;

/** A server in front of the provider, and the load for it. */
export type AnswerSide = { server: Server; load: Load };
export type SideName = "direct" | "nginx" | "parley" | "parleyV1" | "portkey";

type Setup = Omit<Extract<StreamsStep, { step: "open" }>, "step" | "url">;

/**
 * Starts the mock provider and the servers in front of it. Parley has two sides: answers in its conversations, and
 * those of `/v1` that are stored in one.
 * @param streams per side. Each has its own conversation, so that all sides send the provider the same single message,
 * without a history.
 */
export async function openAnswerSides(options: { databaseUrl: string; models: string[]; streams: number }) {
  const { databaseUrl, models, streams } = options;
  const provider = await startProvider();
  const parley = await startParleyWith({ databaseUrl, provider, models });
  const nginx = await startNginx(provider);
  const portkey = await startPortkey();
  const { token } = await register(parley.url);
  const asUser = { authorization: `Bearer ${token}` };
  const conversations = await createConversations(parley.url, token, 2 * streams);

  const sides: Record<SideName, AnswerSide> = {
    direct: await open(provider, createChat({})),
    nginx: await open(nginx, createChat({})),
    parley: await open(parley, {
      headers: { ...asUser, accept: "text/event-stream" },
      requests: conversations.slice(streams).map((id) => ({
        path: `/api/v1/conversations/${id}/messages`,
        body: JSON.stringify({ content: QUESTION, reply: true, model: "compatible/MODEL" }),
      })),
      format: "conversation",
    }),
    parleyV1: await open(parley, createChat(asUser, conversations.slice(0, streams))),
    portkey: await open(
      portkey,
      createChat({
        authorization: "Bearer none",
        "x-portkey-provider": "openai",
        "x-portkey-custom-host": `${provider.url.replace("127.0.0.1", "localhost")}/v1`,
      }),
    ),
  };
  return {
    provider,
    sides,
    async stop() {
      for (const { load } of Object.values(sides)) await load.stop();
      for (const server of [portkey, nginx, parley, provider]) await server.stop();
    },
  };
}

/** Requests as OpenAI's clients send them; with conversations, each is stored in one. */
function createChat(headers: Record<string, string>, conversations: string[] = []): Setup {
  const request = {
    model: conversations.length > 0 ? "compatible/MODEL" : "MODEL",
    messages: [{ role: "user", content: QUESTION }],
    stream: true,
    stream_options: { include_usage: true },
  };
  const bodies = conversations.map((id) => JSON.stringify({ ...request, metadata: { conversation_id: id } }));
  if (bodies.length === 0) bodies.push(JSON.stringify(request));
  return { headers, requests: bodies.map((body) => ({ path: "/v1/chat/completions", body })), format: "chat" };
}

async function open(server: Server, setup: Setup): Promise<AnswerSide> {
  const load = startLoad("streams.ts");
  await load.ask({ step: "open", url: server.url, ...setup } satisfies StreamsStep);
  return { server, load };
}

async function createConversations(url: string, token: string, count: number): Promise<string[]> {
  const ids: string[] = [];
  const make = () => createTitledConversation(url, token);
  while (ids.length < count) ids.push(...(await Promise.all(Array.from({ length: MAKING }, make))));
  return ids;
}
