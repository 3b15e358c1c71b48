import { type Database, withTransaction } from "../../db/client.ts";
import { createGroupCommit, LOCKED } from "../../db/group-commit.ts";
import { type Charge, settleCharges } from "./queries.ts";

/** Estimated memory per queued charge. */
const CHARGE_BYTES = 256;

/**
 * Settles charges in batches: charges that arrive while a commit is in flight are settled together by the next commit. A
 * locked payer doesn't delay other payers' charges.
 */
export function createCharges({ database }: { database: Database }) {
  async function settle(charges: Charge[], waits: boolean) {
    const locked = waits
      ? await withTransaction(database, (sql) => settleCharges(sql, charges, true))
      : await settleCharges(database, charges, false);
    return charges.map((_, index) => (locked.has(index) ? LOCKED : undefined));
  }
  const commits = createGroupCommit<Charge, undefined>({
    keyOf: ({ userId, reservationId }) => userId ?? reservationId,
    senderOf: ({ chargeId }) => chargeId,
    bytesOf: () => CHARGE_BYTES,
    commit: (charges) => settle(charges, false),
    commitWaiting: (charges) => settle(charges, true),
  });

  return {
    /**
     * Resolves once the charge is committed. Safe to call again with the same id.
     * @throws Problem `overloaded` if the payer stays locked; database errors.
     */
    settle: (charge: Charge): Promise<undefined> => commits.submit(charge),
  };
}
