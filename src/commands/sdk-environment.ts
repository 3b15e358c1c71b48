import type { Environment } from "./command.ts";

/** Variables with headers that the OpenAI and Anthropic SDKs would send to every server, including those of other providers. */
const sdkHeaders = ["OPENAI_CUSTOM_HEADERS", "ANTHROPIC_CUSTOM_HEADERS"];

/** Removes these variables from the process environment. A startup warning names the setting to use instead. */
export function removeSdkHeaders(environment: Environment): void {
  for (const name of sdkHeaders) delete environment[name];
}
