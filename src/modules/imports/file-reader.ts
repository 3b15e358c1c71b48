import type { ConversationBuilder, ReadResult } from "./conversation-builder.ts";
import { ImportError } from "./import-error.ts";
import { createJsonReader, type JsonReader } from "./json-reader.ts";
import { createPauser } from "./pacer.ts";
import type { Steps } from "./steps.ts";
import { type FileChunk, hasZipSignature, unzip } from "./unzip.ts";

/** Bytes parsed per step. A step takes far less than a millisecond. */
const STEP_BYTES = 4 * 1024;
/** Maximum number of entries per file. Each needs a statement, so millions of tiny entries would block other imports. */
const ENTRIES_MAX = 250_000;

/**
 * Reads an uploaded JSON file, or a ZIP archive with JSON files, conversation by conversation. Yields to the event loop between
 * steps.
 * @param bytesMax the limit on an archive's unpacked size.
 * @param entriesMax the limit on conversations and other entries.
 * @throws ImportError if the rest of the file can't be read.
 */
export async function* readConversations(
  pieces: AsyncIterable<Uint8Array>,
  builder: ConversationBuilder,
  bytesMax: number,
  entriesMax = ENTRIES_MAX,
): AsyncGenerator<ReadResult> {
  const pause = createPauser();

  async function runWithPauses(steps: Steps<ReadResult>): Promise<ReadResult> {
    for (;;) {
      const next = steps.next();
      if (next.done) return next.value;
      await pause();
    }
  }

  async function* yieldResults(): AsyncGenerator<ReadResult> {
    for (const steps of pendingSteps.splice(0)) {
      entryCount += 1;
      if (entryCount > entriesMax)
        throw new ImportError("too_large", `The file has more than ${entriesMax} conversations. Split it.`);
      yield await runWithPauses(steps);
    }
  }

  let entryCount = 0;
  const pendingSteps: Steps<ReadResult>[] = [];
  let reader: JsonReader | undefined;
  for await (const { bytes, isLast } of readJsonFiles(pieces, bytesMax)) {
    reader ??= createReader(builder, pendingSteps);
    for (let offset = 0; offset < bytes.byteLength; offset += STEP_BYTES) {
      try {
        reader.write(bytes.subarray(offset, offset + STEP_BYTES));
      } catch (error) {
        // Conversations that were complete before the error are still imported.
        yield* yieldResults();
        throw error;
      }
      if (pendingSteps.length > 0) yield* yieldResults();
      await pause();
    }
    if (!isLast) continue;
    reader.end();
    yield* yieldResults();
    reader = undefined;
  }
}

/** Creates a reader that adds the steps of each conversation to `pendingSteps`. */
function createReader(builder: ConversationBuilder, pendingSteps: Steps<ReadResult>[]): JsonReader {
  let isEmpty = true;
  const addConversation = (steps: Steps<ReadResult>) => {
    isEmpty = false;
    pendingSteps.push(steps);
  };
  const reader = createJsonReader({
    onNode: builder.addNode,
    onConversation: (value) => addConversation(builder.finish(value)),
    onOversized: () => addConversation(builder.skipUnreadable()),
  });
  return {
    ...reader,
    end() {
      reader.end();
      if (isEmpty && !reader.isList()) throw new ImportError("invalid", "The file contains no conversations.");
    },
  };
}

/** Yields the chunks of the file or, if it is an archive, of its JSON files one after the other. */
async function* readJsonFiles(pieces: AsyncIterable<Uint8Array>, bytesMax: number): AsyncGenerator<FileChunk> {
  const iterator = pieces[Symbol.asyncIterator]();
  const firstPiece = await iterator.next();
  if (firstPiece.done) throw new ImportError("expired", "The uploaded file no longer exists. Send it again.");
  const chunks = (async function* () {
    yield firstPiece.value;
    for (let next = await iterator.next(); !next.done; next = await iterator.next()) yield next.value;
  })();
  if (hasZipSignature(firstPiece.value)) {
    yield* unzip(chunks, bytesMax);
    return;
  }
  for await (const bytes of chunks) yield { bytes, isLast: false };
  yield { bytes: new Uint8Array(), isLast: true };
}
