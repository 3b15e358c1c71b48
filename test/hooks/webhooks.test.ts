import { expect, test } from "bun:test";
import { createConversation } from "../support/conversation.ts";
import { startReceiver } from "../webhooks/receiver.ts";
import { createWebhook, startWebhooks } from "../webhooks/start-webhooks.ts";
import { createHook, postToHook } from "./start-hooks.ts";

test("hook posts are sent to webhooks with the integration as their author", async () => {
  const webhooks = await startWebhooks();
  const receiver = startReceiver(() => new Response());
  try {
    const anna = await webhooks.register();
    const { id } = await createConversation(webhooks.parley, anna.account);
    await createWebhook(anna, { url: receiver.url, events: ["message.created"] });
    const hook = await createHook(anna, id);
    const { message } = (await postToHook(webhooks.parley, hook, { content: "Deployed" })).body;
    const [received] = await receiver.waitForRequests(1);
    const { type, data } = JSON.parse(String(received?.body)) as { type: string; data: object };
    expect({ type, data }).toEqual({ type: "message.created", data: message });
    expect(message.author).toEqual({ id: hook.id, display_name: "Deployments", kind: "integration" });
  } finally {
    await webhooks.stop();
    await receiver.stop();
  }
});
