import { setDefaultTimeout, test } from "bun:test";
import { runGuide } from "./run-guide.ts";

setDefaultTimeout(120_000);

/** Creates the administrator's session and the conversation that these pages take from docs/getting-started.md. */
const setup = `
parley admin create --email ada@example.com --password 'correct horse battery' >/dev/null
post() { curl -sS -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' "$@"; }
API=http://localhost:3000/api/v1
TOKEN=
TOKEN=$(post $API/auth/login -d '{"email":"ada@example.com","password":"correct horse battery"}' | jq -r .access_token)
post -X PATCH $API/me -d '{"display_name":"Ada"}' >/dev/null
CONVERSATION=$(post $API/conversations -d '{"title":"Boats","reply_mode":"never"}' | jq -r .id)
post $API/conversations/$CONVERSATION/messages -d '{"content":"a quiet harbour in the north"}' >/dev/null
`;

test("the commands in docs/hooks.md work as written", () => runGuide("docs/hooks.md", { setup }));
test("the commands in docs/api-keys.md work as written", () => runGuide("docs/api-keys.md", { setup }));
test("the commands in docs/search.md work as written", () => runGuide("docs/search.md", { setup }));
test("the commands in docs/tools.md work as written", () => runGuide("docs/tools.md", { setup }));
test("the commands in docs/analytics.md work as written", () => runGuide("docs/analytics.md", { setup }));
test("the commands in docs/import-export.md work as written", () => runGuide("docs/import-export.md", { setup }));
