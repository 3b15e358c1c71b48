import { expect, test } from "bun:test";
import { countPieceErrors, formatAnswer, formatPiece } from "../support/answer-pieces.ts";
import { type Packet, parseAnswer } from "./recorded-answer.ts";

const HEAD = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
const formatChunk = (text: string) => `${text.length.toString(16)}\r\n${text}\r\n`;
const formatDelta = (content: string) =>
  formatChunk(`data: ${JSON.stringify({ choices: [{ delta: { content } }] })}\n\n`);
const formatEvent = (fields: { type: string; [field: string]: unknown }) =>
  formatChunk(`event: ${fields.type}\ndata: ${JSON.stringify(fields)}\n\n`);
const END = "0\r\n\r\n";
const createPackets = (...packetTexts: string[]): Packet[] => packetTexts.map((text, index) => ({ atMs: index, text }));

test("a piece has the arrival time of the packet that completes it", () => {
  const secondChunk = formatDelta(formatPiece(2));
  const packets = createPackets(
    HEAD,
    formatDelta(formatPiece(1)) + secondChunk.slice(0, 30),
    secondChunk.slice(30),
    formatDelta(formatPiece(3) + formatPiece(4)),
    `${formatChunk("data: [DONE]\n\n")}${END}`,
  );
  expect(parseAnswer(packets, "chat")).toEqual({
    text: formatAnswer(4),
    finalText: null,
    isComplete: true,
    pieceAtMs: [1, 2, 3, 3],
  });
});

test("an event that is split across chunks and packets is parsed", () => {
  const event = `data: ${JSON.stringify({ choices: [{ delta: { content: formatPiece(1) } }] })}\n\n`;
  const packets = createPackets(
    `${HEAD}${formatChunk(event.slice(0, 9))}3`,
    `\r\n${event.slice(9, 12)}`,
    `\r\n${formatChunk(event.slice(12))}`,
  );
  expect(parseAnswer(packets, "chat")).toMatchObject({ text: formatPiece(1), isComplete: false, pieceAtMs: [2] });
});

test("a recorded answer in a conversation contains the text of its deltas and of its final message", () => {
  const message = { role: "assistant", status: "streaming", content: "" };
  const packets = createPackets(
    HEAD + formatEvent({ type: "message.created", data: { role: "user", content: "What?" } }),
    formatEvent({ type: "message.created", data: message }) +
      formatEvent({ type: "message.delta", text: formatPiece(1) }),
    formatEvent({ type: "message.delta", text: formatPiece(2) }),
    formatEvent({ type: "message.completed", data: { ...message, status: "complete", content: formatAnswer(2) } }) +
      END,
  );
  expect(parseAnswer(packets, "conversation")).toEqual({
    text: formatAnswer(2),
    finalText: formatAnswer(2),
    isComplete: true,
    pieceAtMs: [1, 2],
  });
});

test("lost, repeated, reordered and unknown pieces are counted", () => {
  const [one, two, three] = [formatPiece(1), formatPiece(2), formatPiece(3)];
  expect(countPieceErrors(one + two + three, 3)).toEqual({ lost: 0, misplaced: 0 });
  expect(countPieceErrors(one + three, 3)).toEqual({ lost: 1, misplaced: 0 });
  expect(countPieceErrors(one + two + two + three, 3)).toEqual({ lost: 0, misplaced: 1 });
  expect(countPieceErrors(one + three + two, 3)).toEqual({ lost: 0, misplaced: 1 });
  expect(countPieceErrors(`${one}${two}?${three}`, 3)).toEqual({ lost: 0, misplaced: 1 });
  expect(countPieceErrors("", 3)).toMatchObject({ lost: 3 });
});
