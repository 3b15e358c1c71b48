import { parseArgs } from "node:util";
import { startMockProvider } from "./server.ts";

// Starts the mock provider as a separate process, for manual tests and the bench.
const { values } = parseArgs({ options: { port: { type: "string", default: "4010" } } });
const mockProvider = startMockProvider({ port: Number(values.port) });
console.log(`OPENAI_BASE_URL=${mockProvider.openaiUrl}`);
console.log(`COMPATIBLE_BASE_URL=${mockProvider.openaiUrl}`);
console.log(`ANTHROPIC_BASE_URL=${mockProvider.anthropicUrl}`);
