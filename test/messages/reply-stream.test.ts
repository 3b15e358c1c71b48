import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import type { ProblemBody } from "../../src/http/problem-response.ts";
import type { SentMessage } from "../../src/modules/messages/model.ts";
import type { Message } from "../../src/protocol/message.ts";
import { readAnswer } from "../acceptance/reader.ts";
import { startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { openStream, type TestStream } from "../support/event-stream.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { createRest, type Rest } from "../support/rest.ts";

let provider: MockProvider;
let parley: TestApp;
let anna: Rest;
let ben: Rest;
let path: string;

beforeAll(async () => {
  provider = startMockProvider();
  parley = await startApp({
    config: {
      COMPATIBLE_BASE_URL: provider.openaiUrl,
      AI_MODELS: "compatible/good,compatible/down",
      AI_MAX_RETRIES: "0",
    },
  });
  const accounts = await Promise.all(["Anna", "Ben"].map((name) => parley.register(undefined, name)));
  [anna, ben] = accounts.map((account) => createRest(parley, account)) as [Rest, Rest];
});
beforeEach(async () => {
  provider.reset();
  path = `/conversations/${(await createConversation(parley, anna.account, [ben.account])).id}/messages`;
});
afterAll(async () => {
  await parley.stop();
  await provider.stop();
});

const words = Array.from({ length: 30 }, (_, n) => `word${n} `);
const text = words.join("");
const stream = (input: object, at = path, by = anna) =>
  openStream(parley, at, { token: by.account.access_token, json: input });
const history = async () => (await anna.get<{ data: Message[] }>(path)).body.data;
const types = ({ events }: TestStream) => events.map(({ event }) => event).filter((type) => type !== "message.delta");

describe("the answer to a POST as an event stream", () => {
  test("contains the message, the empty answer, its text without gap or repeat, and its end", async () => {
    provider.script("good", { pieces: words, pieceDelayMs: 3 });
    const reply = await stream({ content: "question", reply: true, client_message_id: "c1" });
    expect(reply.response.headers.get("cache-control")).toBe("no-store");
    expect(reply.response.headers.get("x-accel-buffering")).toBe("no");
    await reply.ended;
    const [question, answer] = await history();
    expect(types(reply)).toEqual(["message.created", "message.created", "message.completed"]);
    expect(reply.events.slice(0, 2)).toMatchObject([
      { id: "2", frame: { seq: 2, at: question?.created_at, data: question } },
      {
        id: "3",
        frame: { seq: 3, data: { id: answer?.id, status: "streaming", content: "", parent_id: question?.id } },
      },
    ]);
    expect(reply.events.at(-1)).toMatchObject({ id: "4", frame: { seq: 4, data: answer } });
    const read = readAnswer(reply.frames(), answer?.id ?? "");
    expect(read.text).toBe(text);
    expect(read.deltas).toBeGreaterThan(1);
    for (const { id, event } of reply.events) expect(id === null).toBe(event === "message.delta");
  });

  test("contains no other events of the conversation", async () => {
    provider.script("good", { pieces: words, pieceDelayMs: 5 });
    const reply = await stream({ content: "question", reply: true });
    await reply.waitFor((frame) => frame.type === "message.delta");
    const other = await ben.request<SentMessage>("POST", path, { content: "noise", reply: true });
    await ben.request("PATCH", `${path}/${other.body.message.id}`, { content: "more noise" });
    await reply.ended;
    expect(types(reply)).toEqual(["message.created", "message.created", "message.completed"]);
    const answer = reply.events.at(-1)?.frame.data;
    expect(readAnswer(reply.frames(), answer?.id ?? "").final).toMatchObject({ content: text });
  });

  test("ends after the message if no model answers", async () => {
    const reply = await stream({ content: "no question", reply: false });
    await reply.ended;
    expect(reply.frames()).toMatchObject([{ type: "message.created", seq: 2, data: { content: "no question" } }]);
  });

  test("reports a failure with message.completed", async () => {
    provider.script("down", { fault: "status", status: 401 });
    provider.script("good", { fault: "status", status: 401 });
    const reply = await stream({ content: "question", reply: true, model: "compatible/down" });
    await reply.ended;
    expect(reply.frames().at(-1)).toMatchObject({
      type: "message.completed",
      data: { status: "failed", finish_reason: "error", error: { code: expect.any(String) } },
    });
    expect(reply.frames().at(-1)?.data).toEqual((await history()).at(-1) as never);
  });

  test("ends with the text so far when the answer is cancelled", async () => {
    provider.script("good", { pieces: words, pieceDelayMs: 30 });
    const reply = await stream({ content: "question", reply: true });
    const { frame } = await reply.waitFor(({ type }) => type === "message.delta");
    await ben.request("POST", `${path}/${frame.message_id}/cancel`);
    await reply.ended;
    const read = readAnswer(reply.frames(), String(frame.message_id));
    expect(read.final).toMatchObject({ status: "cancelled", content: read.text });
    expect(read.text.length).toBeLessThan(text.length);
  });

  test("works the same for a regenerated answer", async () => {
    const first = await stream({ content: "question", reply: true });
    await first.ended;
    const answer = first.events.at(-1)?.frame.data;
    provider.script("good", { text });
    const [, , conversationId = ""] = path.split("/");
    const at = `/conversations/${conversationId.toUpperCase()}/messages/${answer?.id?.toUpperCase()}/regenerate`;
    const again = await openStream(parley, at, { token: anna.account.access_token, method: "POST" });
    await again.ended;
    expect(types(again)).toEqual(["message.created", "message.created", "message.completed"]);
    expect(again.seqs()).toEqual([2, 5, 6]);
    expect(readAnswer(again.frames(), again.events.at(-1)?.frame.data?.id ?? "").text).toBe(text);
  });

  test("sends a problem response for errors before the stream begins", async () => {
    await anna.request("POST", `${path.replace(/messages$/, "members")}`, { user_id: ben.id, role: "viewer" });
    const accept = { accept: "text/event-stream" };
    for (const [rest, input, status, code] of [
      [anna, { content: "" }, 422, "invalid"],
      [anna, { content: "x", model: "openai/none" }, 422, "unknown_model"],
      [anna, { content: "x", parent_id: path.split("/")[2] }, 422, "invalid"],
      [ben, { content: "x" }, 403, "forbidden"],
    ] as const) {
      const refused = await rest.request<ProblemBody>("POST", path, input, accept);
      expect(refused).toMatchObject({ status, body: { status, code } });
      expect(refused.headers.get("content-type")).toBe("application/problem+json");
    }
    expect(await history()).toEqual([]);
  });
});

describe("a repeated send as an event stream", () => {
  const input = { content: "question", reply: true, client_message_id: "once" };

  test("joins the answer in progress: one request to the model", async () => {
    provider.script("good", { pieces: words, pieceDelayMs: 10 });
    const first = await stream(input);
    await first.waitFor((frame) => frame.type === "message.delta" && (frame.offset as number) > 20);
    const [second, third] = await Promise.all([stream(input), stream(input)]);
    for (const reply of [first, second, third]) {
      await reply.ended;
      const end = reply.events.at(-1)?.frame;
      expect(end).toMatchObject({ type: "message.completed", data: { content: text } });
      const read = readAnswer(reply.frames(), end?.data?.id ?? "");
      expect(read).toMatchObject({ text, final: end?.data });
      expect(reply.seqs()).toEqual([2, 3, 4]);
    }
    expect(readAnswer(second.frames(), second.events.at(-1)?.frame.data?.id ?? "").resets).toHaveLength(1);
    expect(provider.requestsOf("good")).toHaveLength(1);
  });

  test("from many clients at once creates one message and one answer, and each client gets the whole text", async () => {
    provider.script("good", { pieces: words, pieceDelayMs: 2 });
    const replies = await Promise.all(Array.from({ length: 12 }, () => stream(input)));
    const [question, answer] = await (async () => {
      await Promise.all(replies.map((reply) => reply.ended));
      return history();
    })();
    for (const reply of replies) {
      expect(reply.seqs()).toEqual([2, 3, 4]);
      expect(reply.frames()[0]?.data).toEqual(question as never);
      expect(readAnswer(reply.frames(), answer?.id ?? "").final).toEqual(answer as never);
    }
    expect(provider.requestsOf("good")).toHaveLength(1);
  });

  test("returns the same events after the end, without another request to the model", async () => {
    const first = await stream(input);
    await first.ended;
    const [question, answer] = await history();
    const again = await stream({ ...input, content: "something else" });
    await again.ended;
    expect(again.frames()).toMatchObject([
      { type: "message.created", seq: 2, data: question },
      { type: "message.created", seq: 3, data: answer },
      { type: "message.completed", seq: 4, at: first.events.at(-1)?.frame.at, data: answer },
    ]);
    expect(provider.requestsOf("good")).toHaveLength(1);
    expect(await history()).toHaveLength(2);
  });
});

describe("a reader who disconnects", () => {
  test("does not stop the answer", async () => {
    provider.script("good", { pieces: words, pieceDelayMs: 5 });
    const reply = await stream({ content: "question", reply: true });
    await reply.waitFor((frame) => frame.type === "message.delta");
    await reply.close();
    const isDone = async () => (await history()).at(-1)?.status !== "streaming";
    while (!(await isDone())) await Bun.sleep(10);
    expect((await history()).at(-1)).toMatchObject({ status: "complete", content: text });
  });

  test("or is removed receives nothing more of it", async () => {
    provider.script("good", { pieces: words, pieceDelayMs: 10 });
    const reply = await stream({ content: "question", reply: true }, path, ben);
    await reply.waitFor((frame) => frame.type === "message.delta");
    await anna.request("DELETE", path.replace(/messages$/, `members/${ben.id}`));
    await reply.ended;
    expect(types(reply)).toEqual(["message.created", "message.created", "error"]);
  });
});

describe("without a configured model", () => {
  test("the built-in one answers from the documents, states that it is offline, and streams", async () => {
    const offline = await startApp();
    const rest = createRest(offline, await offline.register());
    const { body } = await rest.request<{ id: string }>("POST", "/conversations", {});
    const reply = await openStream(offline, `/conversations/${body.id}/messages`, {
      token: rest.account.access_token,
      json: { content: "How do I send a message?" },
    });
    await reply.ended;
    const read = readAnswer(reply.frames(), reply.events.at(-1)?.frame.data?.id ?? "");
    expect(read.final).toMatchObject({ status: "complete", model: "offline/documents", finish_reason: "stop" });
    expect(read.text).toContain("offline");
    expect(read.deltas).toBeGreaterThan(0);
    expect(reply.seqs()).toEqual([1, 2, 3]);
    await offline.stop();
  });
});
