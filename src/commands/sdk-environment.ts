import type { Environment } from "./command.ts";

/** The OpenAI and Anthropic SDKs would send the headers in these variables to every server, including other providers' servers. */
const sdkHeaderVariables = ["OPENAI_CUSTOM_HEADERS", "ANTHROPIC_CUSTOM_HEADERS"];

/** Removes the SDKs' header variables from the process environment. A startup warning mentions the setting to use instead. */
export function removeSdkHeaders(environment: Environment): void {
  for (const name of sdkHeaderVariables) delete environment[name];
}
