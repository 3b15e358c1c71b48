import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { type BaseMessage, HumanMessage, ToolMessage } from "@langchain/core/messages";
import { tool as createLangChainTool } from "@langchain/core/tools";
import { ChatOpenAI } from "@langchain/openai";
import { generateText, type LanguageModel, stepCountIs, streamText, tool } from "ai";
import OpenAI from "openai";
import { z } from "zod";
import type { Thought } from "../support/provider-stand-in/thoughts.ts";
import { type SdkParley, startSdkParley } from "./start-parley.ts";

let parley: SdkParley;

beforeAll(async () => {
  parley = await startSdkParley();
});
beforeEach(() => parley.provider.reset());
afterAll(() => parley.stop());

/** Each way in which models want their thinking back. */
const kinds: [model: string, thought: Thought][] = [
  ["anthropic/two", "signed"],
  ["openai/one", "encrypted"],
  ["compatible/three", "plain"],
  ["compatible/three", "signature"],
  ["compatible/three", "details"],
];

const prompt = "How is the weather in Paris?";
const inputSchema = z.object({ city: z.string() });
const description = "Tells the weather of a city.";
const execute = async ({ city }: z.infer<typeof inputSchema>) => `rain in ${city}`;
const aiTools = { get_weather: tool({ description, inputSchema, execute }) };

/** A model that thinks, calls a tool twice, one call after the other, and then answers. */
function scriptLoop(model: string, thought: Thought): void {
  const call = { toolCalls: [{ name: "get_weather", arguments: '{"city":"Paris"}' }], thought };
  parley.script(model, call, call, { text: "It rains.", thought });
}

/** Loops of the SDKs, over tools of their own, as their users write them. */
const loops = {
  "openai, runTools": async (model: string) => {
    const client = new OpenAI({ apiKey: parley.apiKey, baseURL: parley.baseURL });
    const parameters = { type: "object", properties: { city: { type: "string" } } };
    const get_weather = { name: "get_weather", description, parameters, parse: JSON.parse, function: execute };
    const runner = client.chat.completions.runTools({
      model,
      messages: [{ role: "user", content: prompt }],
      tools: [{ type: "function", function: get_weather }],
    });
    return runner.finalContent();
  },
  "@ai-sdk/openai-compatible, whole": (model: string) => generate(connectCompatible(model)),
  "@ai-sdk/openai-compatible, streamed": (model: string) => stream(connectCompatible(model)),
  "@ai-sdk/openai, whole": (model: string) => generate(connectChat(model)),
  "@langchain/openai": async (model: string) => {
    const asked = new ChatOpenAI({ model, apiKey: parley.apiKey, configuration: { baseURL: parley.baseURL } });
    const weather = createLangChainTool(execute, { name: "get_weather", description, schema: inputSchema });
    const withTools = asked.bindTools([weather]);
    const messages: BaseMessage[] = [new HumanMessage(prompt)];
    for (;;) {
      const answer = await withTools.invoke(messages);
      messages.push(answer);
      if (!answer.tool_calls?.length) return answer.text;
      for (const { id = "", args } of answer.tool_calls)
        messages.push(new ToolMessage({ content: await execute(args as { city: string }), tool_call_id: id }));
    }
  },
};

const connectCompatible = (model: string) =>
  createOpenAICompatible({ name: "parley", apiKey: parley.apiKey, baseURL: parley.baseURL })(model);
const connectChat = (model: string) => createOpenAI({ apiKey: parley.apiKey, baseURL: parley.baseURL }).chat(model);

const generate = async (model: LanguageModel) =>
  (await generateText({ model, prompt, tools: aiTools, stopWhen: stepCountIs(5) })).text;

async function stream(model: LanguageModel): Promise<string> {
  let text = "";
  for await (const delta of streamText({ model, prompt, tools: aiTools, stopWhen: stepCountIs(5) }).textStream)
    text += delta;
  return text;
}

/** These hand back what came with a call; the others only texts and calls. */
const isFaithful = (name: string) => name.startsWith("@ai-sdk/openai-compatible");
const namesOf = (wanted: boolean) => Object.entries(loops).filter(([name]) => isFaithful(name) === wanted);

describe.each(namesOf(true))("%s: a tool loop with a model that wants its thinking back", (_name, run) => {
  test.each(kinds)("%s, %s", async (model, thought) => {
    scriptLoop(model, thought);
    expect(await run(model)).toBe("It rains.");
    expect([parley.provider.refusals, parley.provider.requests.length]).toEqual([[], 3]);
  });
});

test.each(namesOf(false))(
  "%s drops what a model thought: the model is asked in a form that it takes",
  async (_name, run) => {
    const model = "compatible/three";
    scriptLoop(model, "plain");
    expect(await run(model)).toBe("It rains.");
    const answered = parley.provider.requestsOf("three").length - parley.provider.refusals.length;
    expect([answered, parley.provider.requestsOf("one")]).toEqual([3, []]);
  },
);
