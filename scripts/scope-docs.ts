import { type Scope, scopes } from "../src/access/scopes.ts";
import type { Route } from "../src/http/route.ts";
import { createRoutes, type RouteDependencies } from "../src/routes.ts";
import { createMarkdownTable } from "./markdown-table.ts";
import { placeMarkedPart } from "./marked-part.ts";

/** Puts the table of scopes with their operations between its marks. @throws when they are missing. */
export function placeScopeTable(markdown: string): string {
  const routes = createRoutes(createNothing()).filter(({ isHidden, scope }) => !isHidden && scope !== undefined);
  const rows = [...scopes, "any", "session"].map((scope) => [
    titles[scope as keyof typeof titles] ?? `\`${scope}\``,
    routes
      .filter((route) => route.scope === scope)
      .map(nameOperation)
      .join("<br>") || "nothing of its own",
  ]);
  return placeMarkedPart(markdown, "scopes", createMarkdownTable(["scope", "operations"], rows));
}

const titles: Partial<Record<Scope | "any" | "session", string>> = {
  any: "any key",
  session: "no key: only a session",
};

/** `:name` as `{name}`; with a star where only administrators may call it. */
function nameOperation({ method, path, isForAdmins }: Route): string {
  const template = path.replaceAll(/:(\w+)/g, "{$1}").replace(/\*$/, "{path}");
  return `\`${method} ${template}\`${isForAdmins ? " \\*" : ""}`;
}

/** Stands for whatever the handlers of routes would use: they are declared here, and never called. */
export function createNothing(): RouteDependencies {
  const nothing: unknown = new Proxy(() => nothing, { get: () => nothing });
  return nothing as RouteDependencies;
}
