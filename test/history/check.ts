import { checkNumbers, checkSends } from "./check-sends.ts";
import { checkView } from "./check-view.ts";
import type { History, StoredConversation, Violation } from "./record.ts";

/** All violations in a history after it has settled; empty if it is correct. */
export function checkHistory({ sends, views, stored, settled, stray, refusals }: History): Violation[] {
  const byId = new Map(stored.map((conversation) => [conversation.id, conversation]));
  return [
    ...checkSends(sends, stored),
    ...stored.flatMap(checkNumbers),
    ...stored.flatMap(checkEnds),
    ...views.flatMap((view) => {
      const conversation = byId.get(view.conversationId);
      if (!conversation) throw new Error(`${view.client} saw ${view.conversationId}, which is not stored.`);
      return checkView(view, conversation);
    }),
    ...stray.map(({ client, frame }) => ({
      rule: "not a member" as const,
      detail: `${client} got ${JSON.stringify(frame)} without having subscribed`,
    })),
    ...refusals.map((detail) => ({ rule: "refused" as const, detail })),
    ...settled.flatMap(({ what, shown, truth }) =>
      Bun.deepEquals(shown, truth)
        ? []
        : [
            {
              rule: "not settled" as const,
              detail: `${what}: ${JSON.stringify(shown)} is not ${JSON.stringify(truth)}`,
            },
          ],
    ),
  ];
}

/** No answer stays in progress. */
function checkEnds({ id, messages }: StoredConversation): Violation[] {
  return messages.flatMap((message) =>
    message.status === "streaming"
      ? [{ rule: "no end" as const, detail: `the answer ${message.id} in ${id} is still being written` }]
      : [],
  );
}
