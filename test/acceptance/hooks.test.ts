import { expect, setDefaultTimeout, test } from "bun:test";
import type { CreatedHook } from "../../src/modules/hooks/model.ts";
import type { Message } from "../../src/protocol/message.ts";
import { createHook } from "../hooks/start-hooks.ts";
import { createConversation } from "../support/conversation.ts";
import { createRestClient } from "../support/rest.ts";
import { createInstallation, TEST_TIMEOUT_MS } from "./installation.ts";

setDefaultTimeout(TEST_TIMEOUT_MS);

/** Sends a POST request with curl, as a shell script would. */
async function postWithCurl({ url }: Pick<CreatedHook, "url">, ...args: string[]): Promise<string> {
  const child = Bun.spawn(["curl", "--silent", "--show-error", "--fail", ...args, url], {
    stdout: "pipe",
    stderr: "pipe",
  });
  const [stdout, stderr] = await Promise.all([child.stdout.text(), child.stderr.text()]);
  if ((await child.exited) !== 0) throw new Error(stderr);
  return stdout;
}

test("a model answers Slack-style posts from curl, even after a restart", async () => {
  const installation = await createInstallation();
  try {
    let parley = await installation.start();
    const owner = await parley.register();
    const { id } = await createConversation(parley, owner, [], { kind: "direct", reply_mode: "always" });
    const hook = await createHook(createRestClient(parley, owner), id);
    expect(hook.url).toStartWith(parley.url);
    const json = ["-H", "Content-Type: application/json", "-d", '{"text":"How do I back up?","username":"Pager"}'];
    expect(await postWithCurl(hook, ...json)).toBe("ok");
    await parley.stop();
    parley = await installation.start();
    const currentHook = { url: `${parley.url}/api/v1/hooks/${hook.token}` };
    expect(await postWithCurl(currentHook, "--data-urlencode", 'payload={"text":"And restore?"}')).toBe("ok");

    const rest = createRestClient(parley, owner);
    const listMessages = async () =>
      (await rest.get<{ data: Message[] }>(`/conversations/${id}/messages?after_seq=0`)).body.data;
    while ((await listMessages()).some(({ status }) => status === "streaming")) await Bun.sleep(20);
    const createAuthor = (display_name: string) => ({ id: hook.id, display_name, kind: "integration" });
    expect(await listMessages()).toMatchObject([
      { role: "user", content: "How do I back up?", author: createAuthor("Pager") },
      { role: "assistant", status: "complete", author: null },
      { role: "user", content: "And restore?", author: createAuthor("Deployments") },
      { role: "assistant", status: "complete", author: null },
    ]);
  } finally {
    await installation.remove();
  }
});
