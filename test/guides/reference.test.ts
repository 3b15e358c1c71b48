import { setDefaultTimeout, test } from "bun:test";
import { runGuide } from "./run-guide.ts";

setDefaultTimeout(120_000);

/** Pages that go on where docs/getting-started.md ends: with a session of Ada's, here an administrator, and a conversation. */
const before = `
parley admin create --email ada@example.com --password 'correct horse battery' >/dev/null
post() { curl -sS -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' "$@"; }
API=http://localhost:3000/api/v1
TOKEN=
TOKEN=$(post $API/auth/login -d '{"email":"ada@example.com","password":"correct horse battery"}' | jq -r .access_token)
post -X PATCH $API/me -d '{"display_name":"Ada"}' >/dev/null
CONVERSATION=$(post $API/conversations -d '{"title":"Boats","reply_mode":"never"}' | jq -r .id)
post $API/conversations/$CONVERSATION/messages -d '{"content":"a quiet harbour in the north"}' >/dev/null
`;

test("docs/hooks.md runs as printed", () => runGuide("docs/hooks.md", { before }));
test("docs/api-keys.md runs as printed", () => runGuide("docs/api-keys.md", { before }));
test("docs/search.md runs as printed", () => runGuide("docs/search.md", { before }));
test("docs/tools.md runs as printed", () => runGuide("docs/tools.md", { before }));
test("docs/analytics.md runs as printed", () => runGuide("docs/analytics.md", { before }));
test("docs/import-export.md runs as printed", () => runGuide("docs/import-export.md", { before }));
