import type { Thinking } from "../../ai/provider.ts";
import type { Sql } from "../../db/client.ts";
import { createSeal, deriveKey } from "../../lib/seal.ts";
import type { ClaimedGeneration } from "./queries.ts";

type Key = Pick<ClaimedGeneration, "conversation_id" | "id">;

/**
 * Stores the models' thinking until their answer ends, so that another instance can continue. Each step is encrypted and bound to its
 * generation. Thinking never appears in a response, export or log.
 */
export interface ThinkingStore {
  /** Stores a step's thinking, in the transaction that stores its first tool result. */
  write(sql: Sql, key: Key, step: number, thinking: Thinking): Promise<void>;
  /** Loads the thinking by step. Thinking that was encrypted with a different `JWT_SECRET` is ignored. */
  load(sql: Sql, key: Key): Promise<Map<number, Thinking>>;
}

export function createThinkingStore(jwtSecret: string): ThinkingStore {
  const seal = createSeal(deriveKey(jwtSecret, "thinking of answers"));
  const contextOf = (key: Key, step: number) => Buffer.from(`${key.id} ${step}`);

  function open(key: Key, { step, data }: { step: number; data: Buffer }): [number, Thinking][] {
    const plain = seal.open(data, contextOf(key, step));
    return plain === null ? [] : [[step, JSON.parse(plain.toString()) as Thinking]];
  }

  return {
    async write(sql, key, step, thinking) {
      const data = seal.seal(Buffer.from(JSON.stringify(thinking)), contextOf(key, step));
      await sql`
        insert into generation_thinking (conversation_id, generation_id, step, data)
        values (${key.conversation_id}, ${key.id}, ${step}, ${data})
        on conflict (conversation_id, generation_id, step) do update set data = excluded.data`;
    },

    async load(sql, key) {
      const rows = await sql<{ step: number; data: Buffer }[]>`
        select step, data from generation_thinking
        where conversation_id = ${key.conversation_id} and generation_id = ${key.id} order by step`;
      return new Map(rows.flatMap((row) => open(key, row)));
    },
  };
}
