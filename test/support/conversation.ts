import type { Account, TestClient } from "./client.ts";

export type TestConversation = { id: string; last_seq: number; [field: string]: unknown };

/**
 * Creates a conversation in which models answer only on request. Adding a member is an event, so it uses one `seq`. The
 * conversation has a title, so no model is called to generate one.
 */
export async function createConversation(
  parley: Pick<TestClient, "fetch">,
  owner: Account,
  members: Account[] = [],
  input: Record<string, unknown> = {},
): Promise<TestConversation> {
  const response = await parley.fetch("/api/v1/conversations", {
    token: owner.access_token,
    json: { title: "Test", kind: "group", reply_mode: "never", ...input },
  });
  if (response.status !== 201) throw new Error(`conversation: ${response.status} ${await response.text()}`);
  const conversation = (await response.json()) as TestConversation;
  for (const member of members) {
    const memberResponse = await parley.fetch(`/api/v1/conversations/${conversation.id}/members`, {
      token: owner.access_token,
      json: { user_id: member.user.id },
    });
    if (memberResponse.status !== 201)
      throw new Error(`member: ${memberResponse.status} ${await memberResponse.text()}`);
  }
  return conversation;
}
