import type { Environment } from "./command.ts";

/** What the SDKs of OpenAI and Anthropic read by themselves: they would send it to every server, also to others' servers. */
const sdkHeaders = ["OPENAI_CUSTOM_HEADERS", "ANTHROPIC_CUSTOM_HEADERS"];

/** Removes it from the environment of this process. The start warns of it, and names the setting to use. */
export function removeSdkHeaders(environment: Environment): void {
  for (const name of sdkHeaders) delete environment[name];
}
