import { checkSends, checkSequence } from "./check-sends.ts";
import { checkView } from "./check-view.ts";
import type { History, StoredConversation, Violation } from "./history.ts";

/** Finds all violations in a history. */
export function checkHistory({
  sends,
  views,
  stored,
  comparisons,
  unexpectedFrames,
  permanentErrors,
}: History): Violation[] {
  const conversationsById = new Map(stored.map((conversation) => [conversation.id, conversation]));
  return [
    ...checkSends(sends, stored),
    ...stored.flatMap(checkSequence),
    ...stored.flatMap(checkFinished),
    ...views.flatMap((view) => {
      const conversation = conversationsById.get(view.conversationId);
      if (!conversation) throw new Error(`${view.client} received ${view.conversationId}, which isn't stored.`);
      return checkView(view, conversation);
    }),
    ...unexpectedFrames.map(({ client, frame }) => ({
      rule: "not a member" as const,
      detail: `${client} received ${JSON.stringify(frame)} without a subscription`,
    })),
    ...permanentErrors.map((detail) => ({ rule: "permanent error" as const, detail })),
    ...comparisons.flatMap(({ name, actual, expected }) =>
      Bun.deepEquals(actual, expected)
        ? []
        : [
            {
              rule: "outdated view" as const,
              detail: `${name}: ${JSON.stringify(actual)} is not ${JSON.stringify(expected)}`,
            },
          ],
    ),
  ];
}

/** Checks that no answer is in progress. */
function checkFinished({ id, messages }: StoredConversation): Violation[] {
  return messages.flatMap((message) =>
    message.status === "streaming"
      ? [{ rule: "unfinished answer" as const, detail: `the answer ${message.id} in ${id} is still in progress` }]
      : [],
  );
}
