import { StatusMap } from "elysia";
import { getRequestFacts } from "./request-facts.ts";

/** Returns the response's status. In Elysia, a status can also be set by its name. */
export function getResponseStatus(request: Request, response: unknown, status: number | string | undefined): number {
  if (getRequestFacts(request).isUpgraded) return 101;
  if (response instanceof Response) return response.status;
  if (typeof status === "number") return status;
  return StatusMap[status as keyof typeof StatusMap] ?? 200;
}
