import type { Chain, ChainPart, ChainRequest } from "../../ai/chain.ts";
import { type Database, withTransaction } from "../../db/client.ts";
import { createId } from "../../lib/id.ts";
import type { Metrics } from "../../lib/metrics.ts";
import type { Hub } from "../../realtime/hub.ts";
import { createEvent } from "../conversations/service.ts";
import { insertMessage, mapToMessage } from "../messages/service.ts";
import type { ToolService } from "../tools/service.ts";
import type { LiveAnswer } from "./live-answer.ts";
import type { ClaimedGeneration } from "./queries.ts";
import { runWithTools, type ToolCallDone } from "./tool-loop.ts";
import { loadToolProgress, storeProgress, type ToolMetadata } from "./tool-queries.ts";

type Dependencies = { database: Database; hub: Hub; chain: Chain; tools: ToolService; metrics: Metrics };

type Answering = {
  generation: ClaimedGeneration;
  live: LiveAnswer;
  /** The lease is gone: nothing more may be written. It is to abort the run. */
  onLost(): void;
};

/** Answers whose model may call tools. Each call is stored and pushed as a `tool` message below its answer. */
export function createToolRuns({ database, hub, chain, tools, metrics }: Dependencies) {
  /** The result and the text so far in one transaction: a successor has both, or neither. */
  async function store({ generation, live, onLost }: Answering, { call, result, step }: ToolCallDone): Promise<void> {
    live.flush();
    const { text, attempt } = live;
    const { message_id: parentId, conversation_id: conversationId } = generation;
    const metadata: ToolMetadata = {
      name: call.name,
      arguments: call.arguments,
      call_id: call.id,
      is_error: result.isError,
      step,
      offset: text.length,
    };
    const message = { id: createId(), conversationId, parentId, metadata, content: result.content };
    try {
      const row = await withTransaction(database, async (sql) => {
        const stored = await insertMessage(sql, { ...message, role: "tool", status: "complete" });
        if (!stored || !(await storeProgress(sql, generation, parentId, { text, attempt }))) throw new LostError();
        return stored;
      });
      live.storedLength = text.length;
      metrics.messages.inc({ role: "tool" });
      hub.publish(
        createEvent("message.created", conversationId, { seq: row.seq, at: row.created_at }, mapToMessage(row)),
      );
    } catch (error) {
      if (!(error instanceof LostError)) throw error;
      onLost();
    }
  }

  return {
    /**
     * Begins a run. One that was taken over goes on after the last results that are stored: text after them may have led
     * to a call that nobody knows of, so that turn is made anew.
     */
    async open(
      answering: Answering,
      request: Omit<ChainRequest, "options" | "resume" | "onText">,
    ): Promise<AsyncGenerator<ChainPart, void, undefined>> {
      const { generation, live } = answering;
      const { attempt, message_id: messageId } = generation;
      const progress = attempt > 0 ? await loadToolProgress(database, messageId, live.text) : null;
      const resume = progress && { text: live.text.slice(0, progress.offset), attempt, turn: "restarted" as const };
      const onResult = (done: ToolCallDone) => store(answering, done);
      return runWithTools({ chain, tools, onResult }, { ...request, resume }, progress);
    },
  };
}

class LostError extends Error {}
