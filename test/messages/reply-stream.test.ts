import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import type { ProblemBody } from "../../src/http/problem-response.ts";
import type { SentMessage } from "../../src/modules/messages/model.ts";
import type { Message } from "../../src/protocol/message.ts";
import { assembleAnswer } from "../acceptance/assemble-answer.ts";
import { startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { openStream, type TestStream } from "../support/event-stream.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { createRestClient, type RestClient } from "../support/rest.ts";

let provider: MockProvider;
let parley: TestApp;
let anna: RestClient;
let ben: RestClient;
let path: string;

beforeAll(async () => {
  provider = startMockProvider();
  parley = await startApp({
    config: {
      COMPATIBLE_BASE_URL: provider.openaiUrl,
      AI_MODELS: "compatible/working,compatible/down",
      AI_MAX_RETRIES: "0",
    },
  });
  const accounts = await Promise.all(["Anna", "Ben"].map((name) => parley.register(undefined, name)));
  [anna, ben] = accounts.map((account) => createRestClient(parley, account)) as [RestClient, RestClient];
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
const answerText = words.join("");
const openMessageStream = (input: object, sender = anna) =>
  openStream(parley, path, { token: sender.account.access_token, json: input });
const listHistory = async () => (await anna.get<{ data: Message[] }>(path)).body.data;
const listTypes = ({ events }: TestStream) =>
  events.map(({ event }) => event).filter((type) => type !== "message.delta");

describe("the event stream of a sent message", () => {
  test("contains the message, the empty answer, its text without gaps or repeats, and its completion", async () => {
    provider.script("working", { pieces: words, pieceDelayMs: 3 });
    const stream = await openMessageStream({ content: "question", reply: true, client_message_id: "c1" });
    expect(stream.response.headers.get("cache-control")).toBe("no-store");
    expect(stream.response.headers.get("x-accel-buffering")).toBe("no");
    await stream.closed;
    const [question, answer] = await listHistory();
    expect(listTypes(stream)).toEqual(["message.created", "message.created", "message.completed"]);
    expect(stream.events.slice(0, 2)).toMatchObject([
      { id: "2", frame: { seq: 2, at: question?.created_at, data: question } },
      {
        id: "3",
        frame: { seq: 3, data: { id: answer?.id, status: "streaming", content: "", parent_id: question?.id } },
      },
    ]);
    expect(stream.events.at(-1)).toMatchObject({ id: "4", frame: { seq: 4, data: answer } });
    const assembled = assembleAnswer(stream.listFrames(), answer?.id ?? "");
    expect(assembled.text).toBe(answerText);
    expect(assembled.deltaCount).toBeGreaterThan(1);
    for (const { id, event } of stream.events) expect(id === null).toBe(event === "message.delta");
  });

  test("contains no other events from the conversation", async () => {
    provider.script("working", { pieces: words, pieceDelayMs: 5 });
    const stream = await openMessageStream({ content: "question", reply: true });
    await stream.waitFor((frame) => frame.type === "message.delta");
    const bensMessage = await ben.request<SentMessage>("POST", path, { content: "noise", reply: true });
    await ben.request("PATCH", `${path}/${bensMessage.body.message.id}`, { content: "more noise" });
    await stream.closed;
    expect(listTypes(stream)).toEqual(["message.created", "message.created", "message.completed"]);
    const answer = stream.events.at(-1)?.frame.data;
    expect(assembleAnswer(stream.listFrames(), answer?.id ?? "").finalMessage).toMatchObject({ content: answerText });
  });

  test("ends after the message if no answer is requested", async () => {
    const stream = await openMessageStream({ content: "no question", reply: false });
    await stream.closed;
    expect(stream.listFrames()).toMatchObject([{ type: "message.created", seq: 2, data: { content: "no question" } }]);
  });

  test("reports a failure with message.completed", async () => {
    provider.script("down", { fault: "status", status: 401 });
    provider.script("working", { fault: "status", status: 401 });
    const stream = await openMessageStream({ content: "question", reply: true, model: "compatible/down" });
    await stream.closed;
    expect(stream.listFrames().at(-1)).toMatchObject({
      type: "message.completed",
      data: { status: "failed", finish_reason: "error", error: { code: expect.any(String) } },
    });
    expect(stream.listFrames().at(-1)?.data).toEqual((await listHistory()).at(-1) as never);
  });

  test("ends with the partial text when the answer is cancelled", async () => {
    provider.script("working", { pieces: words, pieceDelayMs: 30 });
    const stream = await openMessageStream({ content: "question", reply: true });
    const { frame } = await stream.waitFor(({ type }) => type === "message.delta");
    await ben.request("POST", `${path}/${frame.message_id}/cancel`);
    await stream.closed;
    const assembled = assembleAnswer(stream.listFrames(), String(frame.message_id));
    expect(assembled.finalMessage).toMatchObject({ status: "cancelled", content: assembled.text });
    expect(assembled.text.length).toBeLessThan(answerText.length);
  });

  test("contains the same events for a regenerated answer", async () => {
    const firstStream = await openMessageStream({ content: "question", reply: true });
    await firstStream.closed;
    const answer = firstStream.events.at(-1)?.frame.data;
    provider.script("working", { text: answerText });
    const [, , conversationId = ""] = path.split("/");
    const regeneratePath = `/conversations/${conversationId.toUpperCase()}/messages/${answer?.id?.toUpperCase()}/regenerate`;
    const secondStream = await openStream(parley, regeneratePath, { token: anna.account.access_token, method: "POST" });
    await secondStream.closed;
    expect(listTypes(secondStream)).toEqual(["message.created", "message.created", "message.completed"]);
    expect(secondStream.listSeqs()).toEqual([2, 5, 6]);
    expect(assembleAnswer(secondStream.listFrames(), secondStream.events.at(-1)?.frame.data?.id ?? "").text).toBe(
      answerText,
    );
  });

  test("is replaced by a problem response if an error occurs before it begins", async () => {
    await anna.request("POST", `${path.replace(/messages$/, "members")}`, { user_id: ben.id, role: "viewer" });
    const accept = { accept: "text/event-stream" };
    for (const [rest, input, status, code] of [
      [anna, { content: "" }, 422, "invalid"],
      [anna, { content: "x", model: "openai/none" }, 422, "unknown_model"],
      [anna, { content: "x", parent_id: path.split("/")[2] }, 422, "invalid"],
      [ben, { content: "x" }, 403, "forbidden"],
    ] as const) {
      const errorResponse = await rest.request<ProblemBody>("POST", path, input, accept);
      expect(errorResponse).toMatchObject({ status, body: { status, code } });
      expect(errorResponse.headers.get("content-type")).toBe("application/problem+json");
    }
    expect(await listHistory()).toEqual([]);
  });
});

describe("resending a message as an event stream", () => {
  const input = { content: "question", reply: true, client_message_id: "once" };

  test("joins the answer in progress without another request to the model", async () => {
    provider.script("working", { pieces: words, pieceDelayMs: 10 });
    const firstStream = await openMessageStream(input);
    await firstStream.waitFor((frame) => frame.type === "message.delta" && (frame.offset as number) > 20);
    const [secondStream, thirdStream] = await Promise.all([openMessageStream(input), openMessageStream(input)]);
    for (const stream of [firstStream, secondStream, thirdStream]) {
      await stream.closed;
      const end = stream.events.at(-1)?.frame;
      expect(end).toMatchObject({ type: "message.completed", data: { content: answerText } });
      const assembled = assembleAnswer(stream.listFrames(), end?.data?.id ?? "");
      expect(assembled).toMatchObject({ text: answerText, finalMessage: end?.data });
      expect(stream.listSeqs()).toEqual([2, 3, 4]);
    }
    expect(
      assembleAnswer(secondStream.listFrames(), secondStream.events.at(-1)?.frame.data?.id ?? "").resets,
    ).toHaveLength(1);
    expect(provider.listRequests("working")).toHaveLength(1);
  });

  test("from many clients in parallel creates one message and one answer, and each client receives the whole text", async () => {
    provider.script("working", { pieces: words, pieceDelayMs: 2 });
    const streams = await Promise.all(Array.from({ length: 12 }, () => openMessageStream(input)));
    await Promise.all(streams.map((stream) => stream.closed));
    const [question, answer] = await listHistory();
    for (const stream of streams) {
      expect(stream.listSeqs()).toEqual([2, 3, 4]);
      expect(stream.listFrames()[0]?.data).toEqual(question as never);
      expect(assembleAnswer(stream.listFrames(), answer?.id ?? "").finalMessage).toEqual(answer as never);
    }
    expect(provider.listRequests("working")).toHaveLength(1);
  });

  test("returns the same events after the answer's end, without another request to the model", async () => {
    const firstStream = await openMessageStream(input);
    await firstStream.closed;
    const [question, answer] = await listHistory();
    const resentStream = await openMessageStream({ ...input, content: "something else" });
    await resentStream.closed;
    expect(resentStream.listFrames()).toMatchObject([
      { type: "message.created", seq: 2, data: question },
      { type: "message.created", seq: 3, data: answer },
      { type: "message.completed", seq: 4, at: firstStream.events.at(-1)?.frame.at, data: answer },
    ]);
    expect(provider.listRequests("working")).toHaveLength(1);
    expect(await listHistory()).toHaveLength(2);
  });
});

describe("a reader", () => {
  test("who disconnects does not stop the answer", async () => {
    provider.script("working", { pieces: words, pieceDelayMs: 5 });
    const stream = await openMessageStream({ content: "question", reply: true });
    await stream.waitFor((frame) => frame.type === "message.delta");
    await stream.close();
    const isDone = async () => (await listHistory()).at(-1)?.status !== "streaming";
    while (!(await isDone())) await Bun.sleep(10);
    expect((await listHistory()).at(-1)).toMatchObject({ status: "complete", content: answerText });
  });

  test("who is removed receives no more of the answer", async () => {
    provider.script("working", { pieces: words, pieceDelayMs: 10 });
    const stream = await openMessageStream({ content: "question", reply: true }, ben);
    await stream.waitFor((frame) => frame.type === "message.delta");
    await anna.request("DELETE", path.replace(/messages$/, `members/${ben.id}`));
    await stream.closed;
    expect(listTypes(stream)).toEqual(["message.created", "message.created", "error"]);
  });
});

describe("without a configured model", () => {
  test("the built-in model streams an answer from the documents, which states that it is offline", async () => {
    const offlineApp = await startApp();
    const rest = createRestClient(offlineApp, await offlineApp.register());
    const { body } = await rest.request<{ id: string }>("POST", "/conversations", {});
    const stream = await openStream(offlineApp, `/conversations/${body.id}/messages`, {
      token: rest.account.access_token,
      json: { content: "How do I send a message?" },
    });
    await stream.closed;
    const assembled = assembleAnswer(stream.listFrames(), stream.events.at(-1)?.frame.data?.id ?? "");
    expect(assembled.finalMessage).toMatchObject({
      status: "complete",
      model: "offline/documents",
      finish_reason: "stop",
    });
    expect(assembled.text).toContain("offline");
    expect(assembled.deltaCount).toBeGreaterThan(0);
    expect(stream.listSeqs()).toEqual([1, 2, 3]);
    await offlineApp.stop();
  });
});
