import { describe, expect, test } from "bun:test";
import { type Check, type CheckResult, runChecks } from "../../src/commands/selftest/check.ts";
import type { CheckContext } from "../../src/commands/selftest/check-context.ts";
import {
  findAnswerProblems,
  findDuplicateProblems,
  findLeakProblems,
  findLimitProblems,
  findLossProblems,
  findRestoreProblems,
  findSequenceProblems,
  findTakeoverProblems,
  summarizeMessages,
} from "../../src/commands/selftest/find-problems.ts";
import { assembleAnswer } from "../../src/commands/selftest/received-answer.ts";
import { createReport, formatReport } from "../../src/commands/selftest/report.ts";
import type { StoredMessage } from "../../src/commands/selftest/rest.ts";
import type { Frame } from "../../src/commands/selftest/socket.ts";

function createMessage(seq: number, fields: Partial<StoredMessage> = {}): StoredMessage {
  return {
    id: `id-${seq}`,
    seq,
    role: "user",
    content: `text ${seq}`,
    status: "complete",
    model: null,
    finish_reason: null,
    client_message_id: `c${seq}`,
    parent_id: null,
    ...fields,
  };
}

const history = [1, 2, 3, 4].map((seq) => createMessage(seq));
const acknowledgedMessages = new Map(history.map((message) => [message.client_message_id ?? "", message]));

describe("sequence numbers", () => {
  test("cause no problem if they are complete and in order", () => {
    expect(findSequenceProblems("x", [3, 4, 5], 3, 5)).toEqual([]);
    expect(findSequenceProblems("x", [], 1, 0)).toEqual([]);
  });

  const invalidSequences: [string, number[], string[]][] = [
    ["a gap", [1, 2, 4], ["x: expected seq 3, but got 4"]],
    ["a duplicate", [1, 2, 2, 3, 4], ["x: expected seq 3, but got 2 (duplicate or out of order)"]],
    [
      "the wrong order",
      [2, 1, 3, 4],
      ["x: expected seq 1, but got 2", "x: expected seq 3, but got 1 (duplicate or out of order)"],
    ],
    ["a missing start", [2, 3, 4], ["x: expected seq 1, but got 2"]],
    ["a missing end", [1, 2, 3], ["x: expected events up to seq 4, but got them up to 3"]],
    ["no events", [], ["x: expected events up to seq 4, but got them up to 0"]],
    ["an extra event", [1, 2, 3, 4, 5], ["x: expected no event after seq 4, but got 5"]],
  ];
  test.each(invalidSequences)("with %s are reported", (_, seqs, problems) => {
    expect(findSequenceProblems("x", seqs, 1, 4)).toEqual(problems);
  });

  test("with many problems are reported as the first three problems and the number of the others", () => {
    const problems = findSequenceProblems("x", [2, 4, 6, 8, 10], 1, 10);
    expect(problems).toHaveLength(4);
    expect(problems.at(-1)).toBe("… and 2 more of this kind");
  });
});

describe("acknowledged messages", () => {
  test("cause no problem if all are stored", () => {
    expect(findLossProblems("x", acknowledgedMessages, [...history, createMessage(5)])).toEqual([]);
  });

  test("cause a problem if one is lost", () => {
    expect(findLossProblems("x", acknowledgedMessages, history.slice(1))).toEqual([
      "x: expected the acknowledged message c1 (seq 1), but it is missing",
    ]);
  });

  test("cause a problem if one is stored twice", () => {
    const messagesWithDuplicate = [...history, createMessage(5, { client_message_id: "c2" })];
    expect(findLossProblems("x", acknowledgedMessages, messagesWithDuplicate)).toEqual([
      "x: expected the message c2 once, but got it 2 times",
    ]);
    expect(findDuplicateProblems("x", messagesWithDuplicate)).toEqual([
      "x: expected the message c2 once, but got it 2 times",
    ]);
    expect(
      findDuplicateProblems("x", [
        ...history,
        createMessage(5, { client_message_id: null }),
        createMessage(6, { client_message_id: null }),
      ]),
    ).toEqual([]);
  });

  test.each([{ content: "other" }, { seq: 9 }, { id: "other" }])(
    "cause a problem if a stored message differs: %p",
    (fields) => {
      const changedMessages = [createMessage(1, { ...fields, client_message_id: "c1" }), ...history.slice(1)];
      const problems = findLossProblems("x", acknowledgedMessages, changedMessages);
      expect(problems).toEqual([expect.stringMatching(/^x: expected the message c1 as acknowledged/)]);
    },
  );
});

describe("answers", () => {
  const id = "answer";
  const created: Frame = {
    type: "message.created",
    seq: 2,
    data: createMessage(2, { id, role: "assistant", content: "" }),
  };
  const createDelta = (attempt: number, offset: number, text: string): Frame => ({
    type: "message.delta",
    message_id: id,
    attempt,
    offset,
    text,
  });
  const createReset = (attempt: number, text: string): Frame => ({
    type: "message.reset",
    message_id: id,
    attempt,
    text,
  });
  const stored = createMessage(2, { id, role: "assistant", content: "w1 w2 w3" });
  const completed: Frame = { type: "message.completed", seq: 3, data: stored };
  const validFrames = [
    created,
    createDelta(1, 0, "w1 "),
    createReset(2, "w1 "),
    createDelta(2, 3, "w2 "),
    createDelta(2, 6, "w3"),
    completed,
  ];

  test("cause no problem if the text is correct after a takeover", () => {
    const assembledAnswer = assembleAnswer(validFrames, id);
    expect(assembledAnswer).toMatchObject({ text: "w1 w2 w3", attempts: [1, 2], resetCount: 1, problems: [] });
    expect(findAnswerProblems("x", "w1 w2 w3", assembledAnswer, stored)).toEqual([]);
    expect(findTakeoverProblems("x", assembledAnswer)).toEqual([]);
  });

  test("are complete for a client that reconnects after they have finished", () => {
    const assembledAnswer = assembleAnswer(
      [created, createDelta(1, 0, "w1 "), { type: "ack", events: [completed] }],
      id,
    );
    expect(findAnswerProblems("x", "w1 w2 w3", assembledAnswer, stored)).toEqual([]);
    expect(findTakeoverProblems("x", assembledAnswer)).toEqual([]);
  });

  const invalidFrames: [string, Frame[], RegExp][] = [
    ["a lost delta", validFrames.toSpliced(3, 1), /expected a delta at offset 3, but got one at 6/],
    [
      "a repeated delta",
      validFrames.toSpliced(4, 0, createDelta(2, 3, "w2 ")),
      /expected a delta at offset 6, but got one at 3/,
    ],
    [
      "a takeover without a reset",
      validFrames.toSpliced(2, 1),
      /expected a message\.reset before attempt 2, but got a delta/,
    ],
    ["a late attempt", validFrames.toSpliced(5, 0, createDelta(1, 8, "")), /expected attempt 2 or later, but got 1/],
    [
      "a delta after the end",
      [...validFrames, createDelta(2, 8, "w4")],
      /expected no frame after message.completed, but got message\.delta/,
    ],
    [
      "a missing message.completed",
      validFrames.slice(0, -1),
      /expected message\.completed, but the reader didn't receive it/,
    ],
  ];
  test.each(invalidFrames)("with %s are reported", (_, frames, expectedProblem) => {
    const problems = findAnswerProblems("x", "w1 w2 w3", assembleAnswer(frames, id), stored);
    expect(problems.join("\n")).toMatch(expectedProblem);
  });

  test("with the wrong text, the wrong status or no takeover are reported", () => {
    const failedMessage = { ...stored, content: "w1 w1 w2 w3", status: "failed" };
    const problems = findAnswerProblems("x", "w1 w2 w3", assembleAnswer(validFrames, id), failedMessage).join("\n");
    expect(problems).toContain("expected status complete, but got failed");
    expect(problems).toContain("expected the text to have 8 characters, but got 11");
    expect(problems).toContain("expected the text received by the reader to have 11 characters, but got 8");
    const answerWithoutTakeover = assembleAnswer([created, createDelta(1, 0, "w1 w2 w3"), completed], id);
    expect(findTakeoverProblems("x", answerWithoutTakeover)).toEqual([
      "x: expected a message.reset and a higher attempt number, but got 0 resets and the attempts 1",
    ]);
    expect(findTakeoverProblems("x", assembleAnswer(validFrames.toSpliced(2, 1), id))).toHaveLength(1);
  });
});

describe("an outsider", () => {
  const normalFrames: Frame[] = [{ type: "ready" }, { type: "ack" }, { type: "error", code: "not_found" }];

  test("causes no problem if its requests are rejected and it receives no pushes", () => {
    expect(findLeakProblems([{ action: "GET x", expected: 404, actual: 404 }], normalFrames)).toEqual([]);
  });

  test("is reported if one of its requests succeeds or it receives a push", () => {
    const attempts = [
      { action: "GET x", expected: 404, actual: 200 },
      { action: "subscribe", expected: "not_found", actual: undefined },
    ];
    expect(findLeakProblems(attempts, [...normalFrames, { type: "message.created", seq: 1 }])).toEqual([
      "GET x: expected 404 for an outsider, but got 200",
      "subscribe: expected not_found for an outsider, but got nothing",
      String.raw`expected no push to an outsider, but got "{\"type\":\"message.created\",\"seq\":1}"`,
    ]);
  });
});

describe("a restored conversation", () => {
  test("causes no problem if it is identical to the original up to the backup", () => {
    expect(findRestoreProblems("x", history, history.slice(0, 3))).toEqual([]);
    expect(summarizeMessages(history)).toMatchObject({ messages: 4, lastSeq: 4 });
  });

  test("with a missing message is reported with the number and the checksum of its messages", () => {
    const problems = findRestoreProblems("x", history, history.toSpliced(1, 1));
    expect(problems[0]).toBe("x: expected 4 messages up to seq 4, but got 3");
    expect(problems[1]).toStartWith("x: expected the checksum ");
  });

  test.each([{ content: "other" }, { id: "other" }, { status: "failed" }, { client_message_id: null }])(
    "with a changed message is reported: %p",
    (fields) => {
      const problems = findRestoreProblems("x", history, [createMessage(1, fields), ...history.slice(1)]);
      expect(problems).toHaveLength(1);
      expect(problems[0]).toStartWith("x: expected the checksum ");
    },
  );
});

test("an exceeded limit is reported", () => {
  expect(findLimitProblems("x", 100, 100)).toEqual([]);
  expect(findLimitProblems("x", 101, 100)).toEqual(["x: expected at most 100 ms, but it took 101 ms"]);
});

describe("a run of checks", () => {
  const context = {} as CheckContext;
  const createCheck = (name: string, run: Check["run"], timeoutMs = 5_000): Check => ({
    name,
    claim: `Claim ${name}.`,
    timeoutMs,
    run,
  });
  const createOutcome = (problems: string[]) => ({ summary: "seen", measured: { count: 1 }, problems });
  const passingCheck = createCheck("good", async () => createOutcome([]));
  const createTestReport = (results: CheckResult[]) =>
    createReport({ startedAt: new Date(0), durationMs: 1, settings: { HOST: "x" }, results, logs: "/logs" });

  async function runTestChecks(checks: Check[], signal = new AbortController().signal) {
    const events: string[] = [];
    const listeners = {
      onStart: ({ name }: Check) => void events.push(`start ${name}`),
      onEnd: ({ name, status }: CheckResult) => void events.push(`${status} ${name}`),
    };
    return { results: await runChecks(checks, context, signal, listeners), events };
  }

  test("continues after a failed check, and reports the expected and actual results", async () => {
    const { results, events } = await runTestChecks([
      passingCheck,
      createCheck("bad", async () => createOutcome(["expected a, but got b"])),
      passingCheck,
    ]);
    expect(events).toEqual(["start good", "passed good", "start bad", "failed bad", "start good", "passed good"]);
    expect(createTestReport(results)).toMatchObject({
      passed: false,
      checks: [{}, { status: "failed", measured: { count: 1 } }, {}],
    });
    const text = formatReport(createTestReport(results));
    expect(text).toMatch(/^FAIL {4}bad .*Claim bad\.\n +seen\n +- expected a, but got b$/m);
    expect(text).toContain("2 of 3 claims hold");
    expect(text).toContain("The server logs are in /logs.");
  });

  test("stops after a check that throws", async () => {
    const throwingCheck = createCheck("bad", async () => Promise.reject(new Error("expected a server, but got none")));
    const { results, events } = await runTestChecks([passingCheck, throwingCheck, passingCheck]);
    expect(events).toEqual(["start good", "passed good", "start bad", "failed bad", "not_run good"]);
    expect(results[1]).toMatchObject({ status: "failed", problems: ["expected a server, but got none"] });
    expect(createTestReport(results).passed).toBe(false);
    expect(formatReport(createTestReport(results))).toContain("1 of 3 claims hold");
  });

  test("fails a check that exceeds its timeout", async () => {
    const { results } = await runTestChecks([createCheck("endless", () => new Promise(() => {}), 1), passingCheck]);
    expect(results.map(({ status }) => status)).toEqual(["failed", "not_run"]);
    expect(results[0]?.problems).toEqual(["expected the check to finish within 0.001 s, but it did not"]);
  });

  test("stops immediately when it is interrupted", async () => {
    const controller = new AbortController();
    const endless = createCheck("endless", () => new Promise(() => controller.abort(new Error("interrupted"))));
    await expect(runTestChecks([endless, passingCheck], controller.signal)).rejects.toThrow("interrupted");
  });

  test("doesn't pass if it has no checks", () => {
    expect(createTestReport([]).passed).toBe(false);
  });
});
