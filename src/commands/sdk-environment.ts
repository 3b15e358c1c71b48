import type { Environment } from "./command.ts";

/** Variables that the SDKs of OpenAI and Anthropic read themselves, and would send to every server, including others' servers. */
const sdkHeaders = ["OPENAI_CUSTOM_HEADERS", "ANTHROPIC_CUSTOM_HEADERS"];

/** Removes them from this process. A startup warning names the setting to use instead. */
export function removeSdkHeaders(environment: Environment): void {
  for (const name of sdkHeaders) delete environment[name];
}
