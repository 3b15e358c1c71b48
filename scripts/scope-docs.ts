import { type Scope, scopes } from "../src/access/scopes.ts";
import type { Route } from "../src/http/route.ts";
import { createRoutes, type RouteDependencies } from "../src/routes.ts";
import { createMarkdownTable } from "./markdown-table.ts";
import { replaceMarkedSection } from "./marked-section.ts";

/** Inserts the table of scopes and their operations between its markers. @throws if the markers are missing. */
export function insertScopeTable(markdown: string): string {
  const routes = createRoutes(createUnusedDependencies()).filter(
    ({ isHidden, scope }) => !isHidden && scope !== undefined,
  );
  const rows = [...scopes, "any", "session"].map((scope) => [
    titles[scope as keyof typeof titles] ?? `\`${scope}\``,
    routes
      .filter((route) => route.scope === scope)
      .map(formatOperation)
      .join("<br>") || "nothing of its own",
  ]);
  return replaceMarkedSection(markdown, "scopes", createMarkdownTable(["scope", "operations"], rows));
}

const titles: Partial<Record<Scope | "any" | "session", string>> = {
  any: "any key",
  session: "no key: only a session",
};

/** Formats a route as its method and path, with `{name}` for `:name`, and a star if it is only for administrators. */
function formatOperation({ method, path, isForAdmins }: Route): string {
  const template = path.replaceAll(/:(\w+)/g, "{$1}").replace(/\*$/, "{path}");
  return `\`${method} ${template}\`${isForAdmins ? " \\*" : ""}`;
}

/** Creates a stub for the dependencies of routes that are only declared and never called. */
export function createUnusedDependencies(): RouteDependencies {
  const nothing: unknown = new Proxy(() => nothing, { get: () => nothing });
  return nothing as RouteDependencies;
}
