import { type Database, withTransaction } from "../../db/client.ts";
import { createGroupCommit, LOCKED } from "../../db/group-commit.ts";
import { type Charge, settleCharges } from "./queries.ts";

/** The estimated memory per queued charge. */
const CHARGE_BYTES = 256;

/**
 * Creates a queue that settles charges in batches. The charges that are queued during a commit are settled together by the next commit. A
 * locked payer doesn't delay other payers' charges.
 */
export function createChargeQueue({ database }: { database: Database }) {
  async function settle(charges: Charge[], shouldWait: boolean) {
    const locked = shouldWait
      ? await withTransaction(database, (sql) => settleCharges(sql, charges, true))
      : await settleCharges(database, charges, false);
    return charges.map((_, index) => (locked.has(index) ? LOCKED : undefined));
  }
  const commits = createGroupCommit<Charge, undefined>({
    getKey: ({ userId, reservationId }) => userId ?? reservationId,
    getSender: ({ chargeId }) => chargeId,
    getBytes: () => CHARGE_BYTES,
    commit: (charges) => settle(charges, false),
    waitAndCommit: (charges) => settle(charges, true),
  });

  return {
    /**
     * Resolves when the charge is committed. Safe to call again with the same id.
     * @throws Problem `overloaded` if the payer stays locked, and database errors.
     */
    settle: (charge: Charge): Promise<undefined> => commits.submit(charge),
  };
}
