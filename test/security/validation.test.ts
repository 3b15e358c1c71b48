import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { connect } from "node:net";
import { PARTS_MAX } from "../../src/modules/openai/model.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { createRestClient, type RestClient } from "../support/rest.ts";
import { openSocket } from "../support/socket.ts";
import { listFrames, listOperations, type Operation, type Schema } from "./catalog.ts";

let parley: TestApp;
let anna: Account;
let rest: RestClient;
let conversationId: string;

beforeAll(async () => {
  parley = await startApp();
  anna = await parley.register();
  rest = createRestClient(parley, anna);
  conversationId = (await createConversation(parley, anna)).id;
});
afterAll(() => parley.stop());

const getMessagesPath = () => `/conversations/${conversationId}/messages`;
type StoredResource = { id: string; content: string; title: string; name: string; metadata: Record<string, unknown> };

describe("single-line text", () => {
  const hiddenCharacters = {
    "a tab": "\t",
    "a line break": "\n",
    "a bell": "\u0007",
    "a C1 control character": "\u0085",
    "a direction override": "\u202e",
    "a line separator": "\u2028",
  };
  for (const [name, character] of Object.entries(hiddenCharacters))
    test(`must not contain ${name}`, async () => {
      const text = `a${character}b`;
      const requests: [string, string, object][] = [
        ["POST", "/conversations", { title: text }],
        ["POST", "/prompts", { name: text, template: "x" }],
        ["PATCH", "/me", { display_name: text }],
        ["PATCH", "/me", { email: `${text}@example.com` }],
        ["POST", getMessagesPath(), { content: "x", client_message_id: text }],
        ["POST", getMessagesPath(), { content: "x", model: text }],
      ];
      for (const [method, path, json] of requests) {
        const problem = await rest.requestProblem(method, path, json);
        expect(problem).toMatchObject({ status: 422, code: "invalid", errors: [{}] });
        expect(problem.detail).not.toContain(character);
      }
    });
});

describe("a name or a title", () => {
  const invisibleTexts = [
    "   ",
    "\u200b",
    "\u2060\u2060",
    "\u3164",
    "\u2800",
    "\u00ad",
    "\ufe0f",
    "\u{e0061}\u{e007f}",
    "\u200f",
    "\u0301",
  ];
  const listFields = (text: string): [method: string, path: string, pointer: string, json: object][] => [
    ["POST", "/conversations", "#/title", { title: text }],
    ["PATCH", `/conversations/${conversationId}`, "#/title", { title: text }],
    ["POST", "/prompts", "#/name", { name: text, template: "x" }],
    ["POST", "/api-keys", "#/name", { name: text, scopes: ["messages:read"] }],
    ["PATCH", "/me", "#/display_name", { display_name: text }],
    [
      "POST",
      "/auth/register",
      "#/display_name",
      { email: "b@example.com", password: "a good password", display_name: text },
    ],
    ["POST", `/conversations/${conversationId}/hooks`, "#/name", { name: text }],
    ["POST", "/webhooks", "#/description", { url: "https://example.com", events: ["*"], description: text }],
  ];

  for (const text of invisibleTexts)
    test(`must have a visible character, so ${JSON.stringify(text)} is rejected`, async () => {
      for (const [method, path, pointer, json] of listFields(text)) {
        const problem = await rest.requestProblem(method, path, json);
        expect(problem).toMatchObject({ status: 422, code: "invalid", errors: [{ pointer }] });
        expect(problem.detail).toContain("visible character");
      }
    });

  test("can contain invisible characters in addition to visible ones", async () => {
    const name = "\u200fשלום 👩\u200d👧 \u00ad";
    expect(
      (await rest.request<StoredResource>("PATCH", `/conversations/${conversationId}`, { title: name })).body.title,
    ).toBe(name);
    expect(
      (await rest.request<StoredResource>("PATCH", `/conversations/${conversationId}`, { title: "" })).body.title,
    ).toBe("");
  });

  test("in a hook's message must have a visible character too", async () => {
    const { body } = await rest.request<{ token: string }>("POST", `/conversations/${conversationId}/hooks`, {
      name: "x",
    });
    const problem = await rest.requestProblem("POST", `/hooks/${body.token}`, { content: "x", display_name: "\u2800" });
    expect(problem).toMatchObject({ status: 422, errors: [{ pointer: "#/display_name" }] });
    const json = { text: "in Slack's format", username: "\u3164" };
    expect((await parley.fetch(`/api/v1/hooks/${body.token}`, { json })).status).toBe(200);
    const { body: page } = await rest.request<{ data: { author: { display_name: string } }[] }>(
      "GET",
      getMessagesPath(),
    );
    expect(page.data.at(-1)?.author.display_name).toBe("x");
  });
});

describe("multi-line text", () => {
  test("keeps its line breaks, tabs and direction marks unchanged", async () => {
    const content = "one\r\n\ttwo\n\rthree \u202eright\u202c \u200d👩‍👧";
    const { status, body } = await rest.request<{ message: StoredResource }>("POST", getMessagesPath(), { content });
    expect(status).toBe(201);
    expect(body.message.content).toBe(content);
  });

  test.each(["\u0000", "\u0007", "\u001b[31m", "\u007f", "\u009b", "\ud83d"])(
    "must not contain %j",
    async (character) => {
      expect(await rest.requestProblem("POST", getMessagesPath(), { content: `a${character}` })).toMatchObject({
        status: 422,
        errors: [{ pointer: "#/content" }],
      });
    },
  );
});

describe("NFC", () => {
  const [decomposed, composed] = ["Zoe\u0308 🎉", "Zoë 🎉"];

  test("is the stored form of titles, names, metadata and messages", async () => {
    const { body } = await rest.request<StoredResource>("POST", "/conversations", {
      title: decomposed,
      metadata: { [decomposed]: [decomposed] },
    });
    expect(body).toMatchObject({ title: composed, metadata: { [composed]: [composed] } });
    expect(
      (await rest.request<StoredResource>("POST", "/prompts", { name: decomposed, template: "x" })).body.name,
    ).toBe(composed);
    const sent = await rest.request<{ message: StoredResource }>("POST", getMessagesPath(), { content: decomposed });
    expect(sent.body.message.content).toBe(composed);
    const edited = await rest.request<StoredResource>("PATCH", `${getMessagesPath()}/${sent.body.message.id}`, {
      content: `${decomposed}!`,
    });
    expect(edited.body.content).toBe(`${composed}!`);
  });

  test("is applied to client ids, so two forms of an id are the same id, even over a socket", async () => {
    const input = { content: "x", client_message_id: decomposed };
    const firstSend = await rest.request<{ message: StoredResource }>("POST", getMessagesPath(), input);
    const secondSend = await rest.request<{ message: StoredResource }>("POST", getMessagesPath(), {
      ...input,
      client_message_id: composed,
    });
    expect(secondSend.body.message.id).toBe(firstSend.body.message.id);
    const socket = await openSocket(parley.url, { token: anna.access_token });
    const frame = { type: "message.send", conversation_id: conversationId, ...input };
    expect(await socket.request(frame)).toMatchObject({
      type: "ack",
      duplicate: true,
      message: { id: firstSend.body.message.id },
    });
    const otherFrame = { ...frame, client_message_id: "another", content: decomposed };
    expect(await socket.request(otherFrame)).toMatchObject({ message: { content: composed } });
    expect(await socket.request({ ...otherFrame, id: "a\u0007" })).toMatchObject({ type: "error", code: "invalid" });
    await socket.close();
  });

  test("is applied to emails and passwords, so two forms of an email are the same account, and two forms of a password are equal", async () => {
    const password = `${decomposed} and more`;
    const registerUser = (email: string) =>
      parley.fetch("/api/v1/auth/register", { json: { email, password, display_name: "Zoë" } });
    expect((await registerUser("zoe\u0308@example.com")).status).toBe(201);
    expect((await registerUser("zoë@example.com")).status).toBe(409);
    const login = { email: "zoë@example.com", password: password.normalize("NFC") };
    expect((await parley.fetch("/api/v1/auth/login", { json: login })).status).toBe(200);
  });

  test("is the stored form of messages from the OpenAI-compatible API", async () => {
    const requestCompletion = (content: string) =>
      parley.fetch("/v1/chat/completions", {
        token: anna.access_token,
        json: {
          model: "offline/documents",
          messages: [{ role: "user", content }],
          metadata: { conversation_id: conversationId },
        },
      });
    expect((await requestCompletion(decomposed)).status).toBe(200);
    const { rows } = await rest.listAll<StoredResource>(getMessagesPath(), 200);
    expect(rows.at(-2)?.content).toBe(composed);
    expect((await requestCompletion("bell \u0007")).status).toBe(400);
  });
});

test("the OpenAI-compatible API accepts the maximum number of content parts, but not one more", async () => {
  const requestCompletion = (partCount: number) =>
    parley.fetch("/v1/chat/completions", {
      token: anna.access_token,
      json: {
        model: "offline/documents",
        messages: [{ role: "user", content: Array(partCount).fill({ type: "text", text: "a" }) }],
      },
    });
  expect((await requestCompletion(PARTS_MAX)).status).toBe(200);
  expect((await requestCompletion(PARTS_MAX + 1)).status).toBe(400);
});

describe("a body", () => {
  const postConversation = (body: string | Uint8Array<ArrayBuffer>, headers: Record<string, string> = {}) =>
    fetch(`${parley.url}/api/v1/conversations`, {
      method: "POST",
      headers: { authorization: `Bearer ${anna.access_token}`, "content-type": "application/json", ...headers },
      body,
    });
  const json = '{"title":"a"}';

  test.each([
    ["compressed with gzip", Bun.gzipSync(json), { "content-encoding": "gzip" }, 415],
    ["declared as gzip", json, { "content-encoding": "gzip" }, 415],
    ["with an unsupported charset", json, { "content-type": "application/json; charset=iso-8859-1" }, 415],
    ["as multipart", "--x\r\n\r\n--x--", { "content-type": "multipart/form-data; boundary=x" }, 415],
    ["as a form", "title=a", { "content-type": "application/x-www-form-urlencoded" }, 415],
    ["without a content type", json, { "content-type": "" }, 415],
    ["with a +json content type", json, { "content-type": "application/merge-patch+json" }, 201],
    ["declared as UTF-8", json, { "content-type": 'Application/JSON; Charset="UTF-8"' }, 201],
    ["with a byte order mark", `\ufeff${json}`, {}, 201],
    ["with surrounding whitespace", `\r\n\t ${json} `, {}, 201],
    ["with __proto__", '{"__proto__":{"title":"a"}}', {}, 422],
    ["with __proto__ in free-form JSON", '{"metadata":{"__proto__":{"role":"admin"}}}', {}, 422],
    ["with constructor as a field", '{"constructor":1}', {}, 422],
    ["with constructor in free-form JSON", '{"metadata":{"constructor":{"prototype":1}}}', {}, 201],
    [
      "with a value that can't be converted to a string",
      '{"title":{"toString":1,"valueOf":1},"kind":{"toString":1}}',
      {},
      422,
    ],
    ["with a number above the range", '{"metadata":{"a":1e999}}', {}, 422],
    ["with -0 and the maximum safe integer", '{"metadata":{"a":-0,"b":9007199254740991}}', {}, 201],
    ["with an unsafe integer", '{"metadata":{"b":[[9007199254740993]]}}', {}, 422],
    ["with 100,000 fields", `{${Array.from({ length: 100_000 }, (_, n) => `"${n}":1`).join()}}`, {}, 422],
    ["with 400,000 items", `{"title":[${"1,".repeat(400_000)}1]}`, {}, 422],
    ["with a megabyte of combining marks", `{"title":"a${"\u0301\u0316".repeat(250_000)}"}`, {}, 422],
  ] as [string, string | Uint8Array<ArrayBuffer>, Record<string, string>, number][])(
    "%s returns the expected status",
    async (_, body, headers, status) => {
      const startedAtMs = performance.now();
      const response = await postConversation(body, headers);
      expect(performance.now() - startedAtMs).toBeLessThan(2_000);
      expect({ status: response.status, text: await response.text() }).toMatchObject({ status });
    },
  );

  test("in a GET request is ignored, and the next request on the connection succeeds", async () => {
    const { port, hostname } = new URL(parley.url);
    const socket = connect(Number(port), hostname);
    const request =
      'GET /livez HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 6\r\n\r\n["a\u0000"]';
    socket.write(`${request}GET /version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`);
    let received = "";
    for await (const bytes of socket) received += String(bytes);
    expect(received.match(/HTTP\/1\.1 \d+/g)).toEqual(["HTTP/1.1 200", "HTTP/1.1 200"]);
    expect(received).toContain('"version"');
  });
});

describe("every string and every list has a limit", () => {
  test("in bodies, queries and paths", async () => {
    const operations = await listOperations(parley);
    expect(operations.length).toBeGreaterThan(30);
    expect(operations.flatMap(findUnlimitedFields)).toEqual([]);
  });

  test("in frames", () => {
    expect(listFrames().flatMap(({ type, schema }) => findUnlimited(schema, type))).toEqual([]);
  });
});

/** Parameters without a limit. They are only compared with known values, and never stored. */
const lookupParameters = [
  "GET /problems/{code} path code",
  "GET /v1/models/{path} path path",
  "GET /api/v1/documents/{path} path path",
  "GET /readyz query verbose",
  "GET /healthz query verbose",
];

function findUnlimitedFields({ name, body, parameters }: Operation): string[] {
  const locations = parameters
    // Header limits are enforced by parsers instead, because surrounding quotes do not count.
    .filter((parameter) => parameter.in !== "header")
    .flatMap((parameter) => findUnlimited(parameter.schema, `${name} ${parameter.in} ${parameter.name}`));
  return [...locations, ...(body ? findUnlimited(body, `${name} body`) : [])].filter(
    (location) => !lookupParameters.includes(location),
  );
}

/** Lists the locations in a schema that accept an unlimited string or list. Free-form JSON is limited when it is stored. */
function findUnlimited(schema: Schema, location: string): string[] {
  const ownLocation =
    (schema.type === "string" && !schema.enum && !schema.format && !schema.pattern && schema.maxLength === undefined) ||
    (schema.type === "array" && schema.maxItems === undefined)
      ? [location]
      : [];
  return [
    ...ownLocation,
    ...(schema.anyOf ?? []).flatMap((branch) => findUnlimited(branch, location)),
    ...(schema.items ? findUnlimited(schema.items, `${location}[]`) : []),
    ...Object.entries(schema.properties ?? {}).flatMap(([name, property]) =>
      findUnlimited(property, `${location}.${name}`),
    ),
  ];
}
