import { parseArgs } from "node:util";
import { startProviderStandIn } from "./server.ts";

// The stand-in as a separate process, for manual tests and benches.
const { values } = parseArgs({ options: { port: { type: "string", default: "4010" } } });
const standIn = startProviderStandIn({ port: Number(values.port) });
console.log(`OPENAI_BASE_URL=${standIn.openaiUrl}`);
console.log(`COMPATIBLE_BASE_URL=${standIn.openaiUrl}`);
console.log(`ANTHROPIC_BASE_URL=${standIn.anthropicUrl}`);
