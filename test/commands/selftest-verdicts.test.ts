import { describe, expect, test } from "bun:test";
import { type Check, type CheckResult, runChecks } from "../../src/commands/selftest/check.ts";
import { followAnswer } from "../../src/commands/selftest/reading.ts";
import { createReport, formatReport } from "../../src/commands/selftest/report.ts";
import type { StoredMessage } from "../../src/commands/selftest/rest.ts";
import type { Frame } from "../../src/commands/selftest/socket.ts";
import type { Stage } from "../../src/commands/selftest/stage.ts";
import {
  findAnswerProblems,
  findLeakProblems,
  findLimitProblems,
  findLossProblems,
  findRepeatProblems,
  findRestoreProblems,
  findSequenceProblems,
  findTakeoverProblems,
  summarize,
} from "../../src/commands/selftest/verdicts.ts";

/** What goes wrong in a broken Parley, each as its checks would see it: a verdict has to name it. */

function message(seq: number, fields: Partial<StoredMessage> = {}): StoredMessage {
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

const history = [1, 2, 3, 4].map((seq) => message(seq));
const acknowledged = new Map(history.map((each) => [each.client_message_id ?? "", each]));

describe("numbers of events", () => {
  test("in order and complete: no problem", () => {
    expect(findSequenceProblems("x", [3, 4, 5], 3, 5)).toEqual([]);
    expect(findSequenceProblems("x", [], 1, 0)).toEqual([]);
  });

  const broken: [string, number[], string[]][] = [
    ["a gap", [1, 2, 4], ["x: expected seq 3, but got 4"]],
    ["a duplicate", [1, 2, 2, 3, 4], ["x: expected seq 3, but got 2, which came before"]],
    [
      "the wrong order",
      [2, 1, 3, 4],
      ["x: expected seq 1, but got 2", "x: expected seq 3, but got 1, which came before"],
    ],
    ["a missing start", [2, 3, 4], ["x: expected seq 1, but got 2"]],
    ["a missing end", [1, 2, 3], ["x: expected events up to seq 4, but got them up to 3"]],
    ["nothing at all", [], ["x: expected events up to seq 4, but got them up to 0"]],
    ["one too many", [1, 2, 3, 4, 5], ["x: expected no event after seq 4, but got 5"]],
  ];
  test.each(broken)("%s is named", (_, seqs, problems) => {
    expect(findSequenceProblems("x", seqs, 1, 4)).toEqual(problems);
  });

  test("of many problems, the first are named and the rest is counted", () => {
    const problems = findSequenceProblems("x", [2, 4, 6, 8, 10], 1, 10);
    expect(problems).toHaveLength(4);
    expect(problems.at(-1)).toBe("… and 2 more of this kind");
  });
});

describe("acknowledged messages", () => {
  test("all there, among others: no problem", () => {
    expect(findLossProblems("x", acknowledged, [...history, message(5)])).toEqual([]);
  });

  test("a lost one is named", () => {
    expect(findLossProblems("x", acknowledged, history.slice(1))).toEqual([
      "x: expected the acknowledged message c1 (seq 1), but it is missing",
    ]);
  });

  test("one that is there twice is named", () => {
    const twice = [...history, message(5, { client_message_id: "c2" })];
    expect(findLossProblems("x", acknowledged, twice)).toEqual(["x: expected the message c2 once, but got it 2 times"]);
    expect(findRepeatProblems("x", twice)).toEqual(["x: expected the message c2 once, but got it 2 times"]);
    expect(
      findRepeatProblems("x", [
        ...history,
        message(5, { client_message_id: null }),
        message(6, { client_message_id: null }),
      ]),
    ).toEqual([]);
  });

  test.each([{ content: "other" }, { seq: 9 }, { id: "other" }])("one that differs is named: %p", (fields) => {
    const changed = [message(1, { ...fields, client_message_id: "c1" }), ...history.slice(1)];
    const [problem, ...more] = findLossProblems("x", acknowledged, changed);
    expect(problem).toStartWith("x: expected the message c1 as acknowledged");
    expect(more).toEqual([]);
  });
});

describe("answers", () => {
  const id = "answer";
  const created: Frame = { type: "message.created", seq: 2, data: message(2, { id, role: "assistant", content: "" }) };
  const delta = (attempt: number, offset: number, text: string): Frame => ({
    type: "message.delta",
    message_id: id,
    attempt,
    offset,
    text,
  });
  const reset = (attempt: number, text: string): Frame => ({ type: "message.reset", message_id: id, attempt, text });
  const stored = message(2, { id, role: "assistant", content: "w1 w2 w3" });
  const completed: Frame = { type: "message.completed", seq: 3, data: stored };
  const good = [created, delta(1, 0, "w1 "), reset(2, "w1 "), delta(2, 3, "w2 "), delta(2, 6, "w3"), completed];

  test("a takeover with the right text: no problem", () => {
    const reading = followAnswer(good, id);
    expect(reading).toMatchObject({ text: "w1 w2 w3", attempts: [1, 2], resets: 1, problems: [] });
    expect(findAnswerProblems("x", "w1 w2 w3", reading, stored)).toEqual([]);
    expect(findTakeoverProblems("x", reading)).toEqual([]);
  });

  test("a reader that comes back after the end has the text of the end", () => {
    const reading = followAnswer([created, delta(1, 0, "w1 "), { type: "ack", events: [completed] }], id);
    expect(findAnswerProblems("x", "w1 w2 w3", reading, stored)).toEqual([]);
    expect(findTakeoverProblems("x", reading)).toEqual([]);
  });

  const broken: [string, Frame[], RegExp][] = [
    ["a lost delta", good.toSpliced(3, 1), /expected a delta at offset 3, but got one at 6/],
    ["a repeated delta", good.toSpliced(4, 0, delta(2, 3, "w2 ")), /expected a delta at offset 6, but got one at 3/],
    ["a takeover without a reset", good.toSpliced(2, 1), /expected a message\.reset before attempt 2, but got a delta/],
    ["a late attempt", good.toSpliced(5, 0, delta(1, 8, "")), /expected attempt 2 or later, but got 1/],
    ["a delta after the end", [...good, delta(2, 8, "w4")], /expected no frame after the end, but got message\.delta/],
    ["an end that is never told", good.slice(0, -1), /expected message\.completed, but the reader didn't receive it/],
  ];
  test.each(broken)("%s is named", (_, frames, problem) => {
    const problems = findAnswerProblems("x", "w1 w2 w3", followAnswer(frames, id), stored);
    expect(problems.join("\n")).toMatch(problem);
  });

  test("a wrong text, a wrong status, and an answer without a takeover are named", () => {
    const wrong = { ...stored, content: "w1 w1 w2 w3", status: "failed" };
    const problems = findAnswerProblems("x", "w1 w2 w3", followAnswer(good, id), wrong).join("\n");
    expect(problems).toContain("expected status complete, but got failed");
    expect(problems).toContain("expected the text to have 8 characters, but got 11");
    expect(problems).toContain("expected the text at the reader to have 11 characters, but got 8");
    const plain = followAnswer([created, delta(1, 0, "w1 w2 w3"), completed], id);
    expect(findTakeoverProblems("x", plain)).toEqual([
      "x: expected a message.reset and a higher attempt, but got 0 resets and the attempts 1",
    ]);
  });
});

describe("an outsider", () => {
  const own: Frame[] = [{ type: "ready" }, { type: "ack" }, { type: "error", code: "not_found" }];

  test("who is refused and receives nothing: no problem", () => {
    expect(findLeakProblems([{ what: "GET x", expected: 404, seen: 404 }], own)).toEqual([]);
  });

  test("who is let in, or receives a push, is named", () => {
    const refusals = [
      { what: "GET x", expected: 404, seen: 200 },
      { what: "subscribe", expected: "not_found", seen: undefined },
    ];
    expect(findLeakProblems(refusals, [...own, { type: "message.created", seq: 1 }])).toEqual([
      "GET x: expected 404 for an outsider, but got 200",
      "subscribe: expected not_found for an outsider, but got nothing",
      String.raw`expected no push to an outsider, but got "{\"type\":\"message.created\",\"seq\":1}"`,
    ]);
  });
});

describe("a restored conversation", () => {
  test("that is the original up to the backup: no problem", () => {
    expect(findRestoreProblems("x", history, history.slice(0, 3))).toEqual([]);
    expect(summarize(history)).toMatchObject({ messages: 4, lastSeq: 4 });
  });

  test("with a missing message is named, by count and checksum", () => {
    const problems = findRestoreProblems("x", history, history.toSpliced(1, 1));
    expect(problems[0]).toBe("x: expected 4 messages up to seq 4, but got 3");
    expect(problems[1]).toStartWith("x: expected the checksum ");
  });

  test.each([{ content: "other" }, { id: "other" }, { status: "failed" }, { client_message_id: null }])(
    "with a changed message is named: %p",
    (fields) => {
      const problems = findRestoreProblems("x", history, [message(1, fields), ...history.slice(1)]);
      expect(problems).toHaveLength(1);
      expect(problems[0]).toStartWith("x: expected the checksum ");
    },
  );
});

test("a limit that is exceeded is named", () => {
  expect(findLimitProblems("x", 100, 100)).toEqual([]);
  expect(findLimitProblems("x", 101, 100)).toEqual(["x: expected at most 100 ms, but it took 101 ms"]);
});

describe("a run of checks", () => {
  const stage = {} as Stage;
  const check = (name: string, run: Check["run"], timeoutMs = 5_000): Check => ({
    name,
    claim: `Claim ${name}.`,
    timeoutMs,
    run,
  });
  const outcome = (problems: string[]) => ({ summary: "seen", measured: { count: 1 }, problems });
  const passes = check("good", async () => outcome([]));
  const report = (results: CheckResult[]) =>
    createReport({ startedAt: new Date(0), durationMs: 1, settings: { HOST: "x" }, results, logs: "/logs" });

  async function run(checks: Check[], signal = new AbortController().signal) {
    const seen: string[] = [];
    const listeners = {
      onStart: ({ name }: Check) => void seen.push(`start ${name}`),
      onEnd: ({ name, status }: CheckResult) => void seen.push(`${status} ${name}`),
    };
    return { results: await runChecks(checks, stage, signal, listeners), seen };
  }

  test("goes on after a broken claim, and the report says what was expected and seen", async () => {
    const { results, seen } = await run([passes, check("bad", async () => outcome(["expected a, but got b"])), passes]);
    expect(seen).toEqual(["start good", "passed good", "start bad", "failed bad", "start good", "passed good"]);
    expect(report(results)).toMatchObject({
      passed: false,
      checks: [{}, { status: "failed", measured: { count: 1 } }, {}],
    });
    const text = formatReport(report(results));
    expect(text).toMatch(/^FAIL {4}bad .*Claim bad\.\n +seen\n +- expected a, but got b$/m);
    expect(text).toContain("2 of 3 claims hold");
    expect(text).toContain("The logs of the servers are in /logs.");
  });

  test("ends after a check that broke off: the others are not run, and nothing passes", async () => {
    const breaks = check("bad", async () => Promise.reject(new Error("expected a server, but got none")));
    const { results, seen } = await run([passes, breaks, passes]);
    expect(seen).toEqual(["start good", "passed good", "start bad", "failed bad", "not_run good"]);
    expect(results[1]).toMatchObject({ status: "failed", problems: ["expected a server, but got none"] });
    expect(report(results).passed).toBe(false);
    expect(formatReport(report(results))).toContain("1 of 3 claims hold");
  });

  test("a check that doesn't end has failed", async () => {
    const { results } = await run([check("endless", () => new Promise(() => {}), 1), passes]);
    expect(results.map(({ status }) => status)).toEqual(["failed", "not_run"]);
    expect(results[0]?.problems).toEqual(["expected the check to end within 0.001 s, but it was still running"]);
  });

  test("ends at once when it is interrupted", async () => {
    const controller = new AbortController();
    const endless = check("endless", () => new Promise(() => controller.abort(new Error("interrupted"))));
    await expect(run([endless, passes], controller.signal)).rejects.toThrow("interrupted");
  });

  test("without any check, nothing is proven", () => {
    expect(report([]).passed).toBe(false);
  });
});
