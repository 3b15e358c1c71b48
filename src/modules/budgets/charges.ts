import { type Database, withTransaction } from "../../db/client.ts";
import { createGroupCommit, LOCKED } from "../../db/group-commit.ts";
import { type Charge, settleCharges } from "./queries.ts";

/** What a charge takes in memory while it waits. */
const CHARGE_BYTES = 256;

/**
 * Settles charges: those that come while a commit is in flight are settled together by the next one. A payer that is locked
 * by somebody else holds up nobody else's charges.
 */
export function createCharges({ database }: { database: Database }) {
  async function settle(charges: Charge[], waits: boolean) {
    const leftOut = waits
      ? await withTransaction(database, (sql) => settleCharges(sql, charges, true))
      : await settleCharges(database, charges, false);
    return charges.map((_, index) => (leftOut.has(index) ? LOCKED : undefined));
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
     * Fulfils once the charge is committed; it may be called again under the same id.
     * @throws Problem `overloaded` when the payer stays locked; what the database says.
     */
    settle: (charge: Charge): Promise<undefined> => commits.submit(charge),
  };
}
