import { afterAll, beforeAll, expect, test } from "bun:test";
import { Problem } from "../../src/lib/problem.ts";
import type { Ticket, Tokens } from "../../src/modules/auth/model.ts";
import { unknownOrigin } from "../support/request-origin.ts";
import { type Accounts, readJson, startAccounts } from "./start-accounts.ts";

let accounts: Accounts;
beforeAll(async () => {
  accounts = await startAccounts();
});
afterAll(() => accounts.stop());

async function createTicket({ access_token }: Tokens): Promise<string> {
  const response = await accounts.sendRequest("/auth/ticket", { method: "POST", token: access_token });
  expect(response.status).toBe(200);
  const body = await readJson<Ticket>(response);
  expect(body).toEqual({ ticket: expect.stringMatching(/^ptk_[\w-]{43}$/), expires_in: 30 });
  return body.ticket;
}

/** Redeems a ticket. Returns "redeemed", or the error's problem code. */
async function redeemTicket(ticket: string): Promise<string> {
  const result = await accounts.auth.redeemTicket(ticket, unknownOrigin).then(
    () => "redeemed",
    (reason: unknown) => reason,
  );
  return result instanceof Problem ? result.code : String(result);
}

test("a ticket represents the caller and expires with the caller's token", async () => {
  const tokens = await accounts.register();
  expect(await accounts.auth.redeemTicket(await createTicket(tokens), unknownOrigin)).toEqual(
    await accounts.auth.identify(tokens.access_token, unknownOrigin),
  );
});

test("a ticket works once, even for 16 concurrent uses", async () => {
  const ticket = await createTicket(await accounts.register());
  const codes = await Promise.all(Array.from({ length: 16 }, () => redeemTicket(ticket)));
  expect(codes.sort()).toEqual(["redeemed", ...Array(15).fill("unauthorized")]);
});

test("a ticket expires after 30 s", async () => {
  const tokens = await accounts.register();
  const expiredTicket = await createTicket(tokens);
  await accounts.database`update tickets set expires_at = expires_at - interval '30 s'`;
  expect(await redeemTicket(expiredTicket)).toBe("unauthorized");
  const validTicket = await createTicket(tokens);
  await accounts.database`update tickets set expires_at = expires_at - interval '29 s'`;
  expect(await redeemTicket(validTicket)).toBe("redeemed");
});

test("a ticket is rejected after its session is revoked or its token has expired", async () => {
  const tokens = await accounts.register();
  const ticket = await createTicket(tokens);
  await accounts.sendRequest("/auth/logout", { json: { refresh_token: tokens.refresh_token } });
  expect(await redeemTicket(ticket)).toBe("unauthorized");
  const ticketWithExpiredToken = await createTicket(await accounts.register());
  await accounts.database`update tickets set credential_expires_at = now()`;
  expect(await redeemTicket(ticketWithExpiredToken)).toBe("unauthorized");
});

test("a ticket is stored only as a hash, and any other string is rejected", async () => {
  const tokens = await accounts.register();
  const ticket = await createTicket(tokens);
  const rows = await accounts.database<{ hash: Uint8Array }[]>`select hash from tickets`;
  expect(rows.some(({ hash }) => Buffer.from(hash).toString("base64url") === ticket.slice(4))).toBe(false);
  for (const invalidTicket of [
    "",
    "x",
    `${ticket}x`,
    ticket.slice(0, -1),
    `ptk_${"A".repeat(43)}`,
    tokens.access_token,
  ])
    expect(await redeemTicket(invalidTicket)).toBe("unauthorized");
  expect(await redeemTicket(ticket)).toBe("redeemed");
});
