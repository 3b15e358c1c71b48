import type { Thinking } from "../../ai/provider.ts";
import type { Sql } from "../../db/client.ts";
import { createSeal, deriveKey } from "../../lib/seal.ts";
import type { ClaimedGeneration } from "./queries.ts";

type GenerationIds = Pick<ClaimedGeneration, "conversation_id" | "id">;

/**
 * Stores the models' thinking until the answer is finished, so that another instance can continue it. Each step is encrypted and bound to its
 * generation. Thinking never appears in a response, export or log.
 */
export interface ThinkingStore {
  /** Stores a step's thinking, in the transaction that stores its first tool result. */
  write(sql: Sql, generation: GenerationIds, step: number, thinking: Thinking): Promise<void>;
  /** Loads the thinking by step. Thinking that was encrypted with a different `JWT_SECRET` is ignored. */
  load(sql: Sql, generation: GenerationIds): Promise<Map<number, Thinking>>;
}

export function createThinkingStore(jwtSecret: string): ThinkingStore {
  const seal = createSeal(deriveKey(jwtSecret, "thinking of answers"));
  const createSealContext = (generation: GenerationIds, step: number) => Buffer.from(`${generation.id} ${step}`);

  function decryptStep(
    generation: GenerationIds,
    { step, data }: { step: number; data: Buffer },
  ): [number, Thinking][] {
    const plain = seal.open(data, createSealContext(generation, step));
    return plain === null ? [] : [[step, JSON.parse(plain.toString()) as Thinking]];
  }

  return {
    async write(sql, generation, step, thinking) {
      const data = seal.seal(Buffer.from(JSON.stringify(thinking)), createSealContext(generation, step));
      await sql`
        insert into generation_thinking (conversation_id, generation_id, step, data)
        values (${generation.conversation_id}, ${generation.id}, ${step}, ${data})
        on conflict (conversation_id, generation_id, step) do update set data = excluded.data`;
    },

    async load(sql, generation) {
      const rows = await sql<{ step: number; data: Buffer }[]>`
        select step, data from generation_thinking
        where conversation_id = ${generation.conversation_id} and generation_id = ${generation.id} order by step`;
      return new Map(rows.flatMap((row) => decryptStep(generation, row)));
    },
  };
}
