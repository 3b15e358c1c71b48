"""Calls Parley as a user of OpenAI's Python SDK does, and prints the results as JSON.

python client.py BASE_URL API_KEY MODEL
"""

import asyncio
import json
import sys

import openai
import pydantic

base_url, api_key, model = sys.argv[1:4]
client = openai.OpenAI(base_url=base_url, api_key=api_key, max_retries=0)
question = {"role": "user", "content": "What's the weather like in Paris?"}
weather = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Returns the weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
        "strict": True,
    },
}


def complete():
    completion = client.chat.completions.create(model=model, messages=[question], temperature=0.5, stop=None)
    return {"text": completion.choices[0].message.content, "tokens": completion.usage.completion_tokens > 0}


def stream():
    chunks = client.chat.completions.create(
        model=model, messages=[question], stream=True, stream_options={"include_usage": True}
    )
    text, tokens = "", 0
    for chunk in chunks:
        text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
        tokens = chunk.usage.completion_tokens if chunk.usage else tokens
    return {"text": text, "tokens": tokens > 0}


def stream_with_helper():
    with client.chat.completions.stream(model=model, messages=[question]) as events:
        text = "".join(event.delta for event in events if event.type == "content.delta")
        return {"text": text, "final": events.get_final_completion().choices[0].message.content}


def call_tools():
    first_completion = client.chat.completions.create(model=model, messages=[question], tools=[weather])
    call = first_completion.choices[0].message.tool_calls[0]
    city = json.loads(call.function.arguments)["city"]
    result = {"role": "tool", "tool_call_id": call.id, "content": f"rain in {city}"}
    # The message is sent back exactly as the SDK built it.
    messages = [question, first_completion.choices[0].message, result]
    second_completion = client.chat.completions.create(model=model, messages=messages, tools=[weather])
    return {"reason": first_completion.choices[0].finish_reason, "text": second_completion.choices[0].message.content}


async def complete_async():
    async with openai.AsyncOpenAI(base_url=base_url, api_key=api_key) as async_client:
        completion = await async_client.chat.completions.create(model=model, messages=[question])
        return {"text": completion.choices[0].message.content}


class Place(pydantic.BaseModel):
    city: str


def parse():
    completion = client.chat.completions.parse(model=model, messages=[question], response_format=Place)
    return {"city": completion.choices[0].message.parsed.city}


def catch_error(**fields):
    try:
        client.chat.completions.create(**{"model": model, "messages": [question], **fields})
    except openai.APIStatusError as error:
        return {"error": type(error).__name__, "status": error.status_code, "code": error.code, "param": error.param}
    return {"error": None}


def list_models():
    return {"models": [entry.id for entry in client.models.list()], "one": client.models.retrieve(model).id}


print(
    json.dumps(
        {
            "completion": complete(),
            "stream": stream(),
            "helper": stream_with_helper(),
            "async": asyncio.run(complete_async()),
            "tools": call_tools(),
            "parsed": parse(),
            "unsupported": catch_error(n=2),
            "unknown": catch_error(extra_body={"foo": 1}),
            "absent": catch_error(model="openai/none"),
            "models": list_models(),
        }
    )
)
