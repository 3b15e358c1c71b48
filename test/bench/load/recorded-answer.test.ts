import { expect, test } from "bun:test";
import { answerText, findDamage, pieceText } from "../support/pieces.ts";
import { type Packet, readAnswer } from "./recorded-answer.ts";

const HEAD = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
const frame = (text: string) => `${text.length.toString(16)}\r\n${text}\r\n`;
const chunk = (content: string) => frame(`data: ${JSON.stringify({ choices: [{ delta: { content } }] })}\n\n`);
const event = (fields: { type: string; [field: string]: unknown }) =>
  frame(`event: ${fields.type}\ndata: ${JSON.stringify(fields)}\n\n`);
const END = "0\r\n\r\n";
const arrive = (...texts: string[]): Packet[] => texts.map((text, index) => ({ atMs: index, text }));

test("dates each piece by the packet that completes it", () => {
  const second = chunk(pieceText(2));
  const packets = arrive(
    HEAD,
    chunk(pieceText(1)) + second.slice(0, 30),
    second.slice(30),
    chunk(pieceText(3) + pieceText(4)),
    `${frame("data: [DONE]\n\n")}${END}`,
  );
  expect(readAnswer(packets, "chat")).toEqual({
    text: answerText(4),
    finalText: null,
    isComplete: true,
    pieceAtMs: [1, 2, 3, 3],
  });
});

test("reads an event that is spread over chunks and packets as one", () => {
  const text = `data: ${JSON.stringify({ choices: [{ delta: { content: pieceText(1) } }] })}\n\n`;
  const packets = arrive(
    `${HEAD}${frame(text.slice(0, 9))}3`,
    `\r\n${text.slice(9, 12)}`,
    `\r\n${frame(text.slice(12))}`,
  );
  expect(readAnswer(packets, "chat")).toMatchObject({ text: pieceText(1), isComplete: false, pieceAtMs: [2] });
});

test("reads the deltas of an answer in a conversation, and the message in its final form", () => {
  const message = { role: "assistant", status: "streaming", content: "" };
  const packets = arrive(
    HEAD + event({ type: "message.created", data: { role: "user", content: "What?" } }),
    event({ type: "message.created", data: message }) + event({ type: "message.delta", text: pieceText(1) }),
    event({ type: "message.delta", text: pieceText(2) }),
    event({ type: "message.completed", data: { ...message, status: "complete", content: answerText(2) } }) + END,
  );
  expect(readAnswer(packets, "conversation")).toEqual({
    text: answerText(2),
    finalText: answerText(2),
    isComplete: true,
    pieceAtMs: [1, 2],
  });
});

test("detects lost, repeated, reordered and foreign pieces", () => {
  const [one, two, three] = [pieceText(1), pieceText(2), pieceText(3)];
  expect(findDamage(one + two + three, 3)).toEqual({ lost: 0, misplaced: 0 });
  expect(findDamage(one + three, 3)).toEqual({ lost: 1, misplaced: 0 });
  expect(findDamage(one + two + two + three, 3)).toEqual({ lost: 0, misplaced: 1 });
  expect(findDamage(one + three + two, 3)).toEqual({ lost: 0, misplaced: 1 });
  expect(findDamage(`${one}${two}?${three}`, 3)).toEqual({ lost: 0, misplaced: 1 });
  expect(findDamage("", 3)).toMatchObject({ lost: 3 });
});
