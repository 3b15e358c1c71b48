import type { StreamsStep } from "../load/streams.ts";
import { registerAccount } from "./account.ts";
import {
  createTitledConversation,
  startNginx,
  startParleyWithModels,
  startPortkey,
  startProvider,
} from "./answer-servers.ts";
import { type LoadProcess, startLoadProcess } from "./load.ts";
import type { Server } from "./servers.ts";

const QUESTION = "What is the answer to the question that everybody asks?";
/** Maximum number of conversations that are created concurrently. */
const CREATIONS_MAX = 20;

/** A path from the load process to the provider. `server` is a server between them, or the provider itself. */
export type AnswerPath = { server: Server; load: LoadProcess };
export type PathName = "direct" | "nginx" | "parley" | "parleyV1" | "portkey";

type Setup = Omit<Extract<StreamsStep, { step: "open" }>, "step" | "url">;

/**
 * Starts the mock provider and the servers in front of it. Parley has two paths: answers in conversations, and `/v1`
 * completions that are stored in a conversation.
 * @param options.streams The number of streams per path. Each has its own conversation, so that the provider always
 * receives the same single message.
 */
export async function openAnswerPaths(options: { databaseUrl: string; models: string[]; streams: number }) {
  const { databaseUrl, models, streams } = options;
  const provider = await startProvider();
  const parley = await startParleyWithModels({ databaseUrl, provider, models });
  const nginx = await startNginx(provider);
  const portkey = await startPortkey();
  const { token } = await registerAccount(parley.url);
  const authorizationHeader = { authorization: `Bearer ${token}` };
  const conversations = await createConversations(parley.url, token, 2 * streams);

  const paths: Record<PathName, AnswerPath> = {
    direct: await openPath(provider, createChatSetup({})),
    nginx: await openPath(nginx, createChatSetup({})),
    parley: await openPath(parley, {
      headers: { ...authorizationHeader, accept: "text/event-stream" },
      requests: conversations.slice(streams).map((id) => ({
        path: `/api/v1/conversations/${id}/messages`,
        body: JSON.stringify({ content: QUESTION, reply: true, model: "compatible/MODEL" }),
      })),
      format: "conversation",
    }),
    parleyV1: await openPath(parley, createChatSetup(authorizationHeader, conversations.slice(0, streams))),
    portkey: await openPath(
      portkey,
      createChatSetup({
        authorization: "Bearer none",
        "x-portkey-provider": "openai",
        "x-portkey-custom-host": `${provider.url.replace("127.0.0.1", "localhost")}/v1`,
      }),
    ),
  };
  return {
    provider,
    paths,
    async stop() {
      for (const { load } of Object.values(paths)) await load.stop();
      for (const server of [portkey, nginx, parley, provider]) await server.stop();
    },
  };
}

/** Creates Chat Completions requests, one for each conversation. Without conversations, creates one request. */
function createChatSetup(headers: Record<string, string>, conversations: string[] = []): Setup {
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

async function openPath(server: Server, setup: Setup): Promise<AnswerPath> {
  const load = startLoadProcess("streams.ts");
  await load.runStep({ step: "open", url: server.url, ...setup } satisfies StreamsStep);
  return { server, load };
}

async function createConversations(url: string, token: string, count: number): Promise<string[]> {
  const ids: string[] = [];
  const createConversation = () => createTitledConversation(url, token);
  while (ids.length < count)
    ids.push(...(await Promise.all(Array.from({ length: CREATIONS_MAX }, createConversation))));
  return ids;
}
