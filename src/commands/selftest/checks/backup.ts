import { statSync } from "node:fs";
import { join } from "node:path";
import { formatBytes } from "../../../lib/format-bytes.ts";
import type { Check } from "../check.ts";
import type { CheckContext } from "../check-context.ts";
import { findLossProblems, findRestoreProblems, findSequenceProblems, summarizeMessages } from "../find-problems.ts";
import { formatMs, formatQuantity } from "../measurements.ts";
import type { RestClient, StoredMessage } from "../rest.ts";
import { startSender } from "../sender.ts";
import { connectAndSubscribe } from "../socket.ts";

const IN_FLIGHT = 4;
const PAUSE_MS = 5;
const WARM_UP_MS = 300;
/** Shutdown timeout of the server that runs on the restored data. It is shorter than the answer that the next check interrupts. */
export const SHUTDOWN_TIMEOUT_MS = 2_000;

export const backupCheck: Check = {
  name: "backup",
  claim: "A backup made while messages arrive restores into an empty database: same messages, same checksums.",
  timeoutMs: 60_000,

  async run(context) {
    const { server, users, sandbox, interruptedWork } = context;
    const { ada, ben } = users;
    const loadConversationId =
      interruptedWork?.loadConversationId ?? (await server.rest.createConversation(ada, [ben], "Load"));
    const conversationIds = [
      loadConversationId,
      ...(interruptedWork ? [interruptedWork.storm.conversationId, interruptedWork.answer.conversationId] : []),
    ];
    const socket = await connectAndSubscribe(server.url, ben.token, loadConversationId);
    const sender = startSender({
      socket,
      conversationId: loadConversationId,
      name: "backup",
      inFlightMax: IN_FLIGHT,
      pauseMs: PAUSE_MS,
    });
    await Bun.sleep(WARM_UP_MS);
    const acknowledgedBeforeBackup = new Map(sender.acknowledged);
    const file = join(sandbox.folder, "parley.backup");
    const backupRun = await sandbox.run(["backup", file], { DATA_DIR: server.dataDir });
    const acknowledgedDuringCount = sender.acknowledged.size - acknowledgedBeforeBackup.size;
    await sender.stop();
    await socket.close();
    const verifyRun = await sandbox.run(["verify", file], {});
    const dataDir = sandbox.addDataDir();
    const restoreRun = await sandbox.run(["restore", file], { DATA_DIR: dataDir });
    const originalMessages = await listAllMessages(context, server.rest, conversationIds);
    await server.kill();

    const settings = { ...context.provider.settings, SHUTDOWN_TIMEOUT_MS: String(SHUTDOWN_TIMEOUT_MS) };
    context.server = await sandbox.start({ dataDir, settings });
    // The access tokens from before the backup still work, because sessions are restored too.
    const restoredMessages = await listAllMessages(context, context.server.rest, conversationIds);
    const problems = [...sender.problems];
    if (acknowledgedDuringCount === 0)
      problems.push("expected messages to be acknowledged during the backup, but none were");
    for (const [n, id] of conversationIds.entries()) {
      problems.push(
        ...findRestoreProblems(`conversation ${n + 1}`, originalMessages[n] ?? [], restoredMessages[n] ?? []),
      );
      const seqs = await context.server.rest.listSeqs(ada, id);
      problems.push(...findSequenceProblems(`conversation ${n + 1}`, seqs, 1, seqs.length));
    }
    problems.push(...findLossProblems("restored", acknowledgedBeforeBackup, restoredMessages[0] ?? []));
    const total = summarizeMessages(restoredMessages.flat());
    const totalMs = backupRun.durationMs + verifyRun.durationMs + restoreRun.durationMs;
    return {
      summary: `${formatQuantity(total.messages, "message")}, ${formatBytes(statSync(file).size)}; backup ${formatMs(backupRun.durationMs)}, verify ${formatMs(verifyRun.durationMs)}, restore ${formatMs(restoreRun.durationMs)}; sha256 ${total.sha256.slice(0, 16)}`,
      measured: {
        messages: total.messages,
        sha256: total.sha256,
        acknowledged_before: acknowledgedBeforeBackup.size,
        acknowledged_during: acknowledgedDuringCount,
        file_bytes: statSync(file).size,
        backup_ms: Math.round(backupRun.durationMs),
        verify_ms: Math.round(verifyRun.durationMs),
        restore_ms: Math.round(restoreRun.durationMs),
        total_ms: Math.round(totalMs),
      },
      problems,
    };
  },
};

const listAllMessages = (
  { users }: CheckContext,
  rest: RestClient,
  ids: readonly string[],
): Promise<StoredMessage[][]> => Promise.all(ids.map((id) => rest.listMessages(users.ada, id)));
