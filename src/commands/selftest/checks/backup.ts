import { statSync } from "node:fs";
import { join } from "node:path";
import { formatBytes } from "../../../lib/format-bytes.ts";
import type { Check } from "../check.ts";
import { formatMs, formatQuantity } from "../figures.ts";
import type { Rest, StoredMessage } from "../rest.ts";
import { startSender } from "../sender.ts";
import { openSubscribed } from "../socket.ts";
import type { Stage } from "../stage.ts";
import { findLossProblems, findRestoreProblems, findSequenceProblems, summarize } from "../verdicts.ts";

const IN_FLIGHT = 4;
const PACE_MS = 5;
const WARM_UP_MS = 300;
/** Shutdown timeout of the server that is started on the restored data. The next check stops it during an answer. */
export const SHUTDOWN_TIMEOUT_MS = 2_000;

export const backupCheck: Check = {
  name: "backup",
  claim: "A backup made while messages arrive restores into an empty database: same messages, same checksums.",
  timeoutMs: 60_000,

  async run(stage) {
    const { server, people, sandbox, interrupted } = stage;
    const { ada, ben } = people;
    const loadId = interrupted?.loadConversationId ?? (await server.rest.createConversation(ada, [ben], "Load"));
    const ids = [loadId, ...(interrupted ? [interrupted.storm.conversationId, interrupted.answer.conversationId] : [])];
    const socket = await openSubscribed(server.url, ben.token, loadId);
    const sender = startSender({
      socket,
      conversationId: loadId,
      name: "backup",
      inFlight: IN_FLIGHT,
      paceMs: PACE_MS,
    });
    await Bun.sleep(WARM_UP_MS);
    const before = new Map(sender.acknowledged);
    const file = join(sandbox.folder, "parley.backup");
    const backup = await sandbox.run(["backup", file], { DATA_DIR: server.dataDir });
    const during = sender.acknowledged.size - before.size;
    await sender.stop();
    await socket.close();
    const verify = await sandbox.run(["verify", file], {});
    const dataDir = sandbox.addDataDir();
    const restore = await sandbox.run(["restore", file], { DATA_DIR: dataDir });
    const originals = await readAll(stage, server.rest, ids);
    await server.kill();

    const settings = { ...stage.provider.settings, SHUTDOWN_TIMEOUT_MS: String(SHUTDOWN_TIMEOUT_MS) };
    stage.server = await sandbox.start({ dataDir, settings });
    // The access tokens from before the backup still work, because sessions are restored too.
    const restored = await readAll(stage, stage.server.rest, ids);
    const problems = [...sender.problems];
    if (during === 0) problems.push("expected messages to be acknowledged during the backup, but none were");
    for (const [n, id] of ids.entries()) {
      problems.push(...findRestoreProblems(`conversation ${n + 1}`, originals[n] ?? [], restored[n] ?? []));
      const seqs = await stage.server.rest.listSeqs(ada, id);
      problems.push(...findSequenceProblems(`conversation ${n + 1}`, seqs, 1, seqs.length));
    }
    problems.push(...findLossProblems("restored", before, restored[0] ?? []));
    const total = summarize(restored.flat());
    const tookMs = backup.tookMs + verify.tookMs + restore.tookMs;
    return {
      summary: `${formatQuantity(total.messages, "message")}, ${formatBytes(statSync(file).size)}; backup ${formatMs(backup.tookMs)}, verify ${formatMs(verify.tookMs)}, restore ${formatMs(restore.tookMs)}; sha256 ${total.sha256.slice(0, 16)}`,
      measured: {
        messages: total.messages,
        sha256: total.sha256,
        acknowledged_before: before.size,
        acknowledged_during: during,
        file_bytes: statSync(file).size,
        backup_ms: Math.round(backup.tookMs),
        verify_ms: Math.round(verify.tookMs),
        restore_ms: Math.round(restore.tookMs),
        total_ms: Math.round(tookMs),
      },
      problems,
    };
  },
};

const readAll = ({ people }: Stage, rest: Rest, ids: readonly string[]): Promise<StoredMessage[][]> =>
  Promise.all(ids.map((id) => rest.listMessages(people.ada, id)));
