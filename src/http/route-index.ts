/** A route as the framework lists it; `detail` is what it declares of itself in its documentation. */
export type DeclaredRoute = { method: string; path: string; detail: object | undefined };

/**
 * Looks up what routes declare, by method and pattern: so the document and what is enforced cannot differ. A HEAD is
 * answered by the route of its GET. The routes are listed at the first look, when the app is complete.
 */
export function createRouteIndex<T>(
  listRoutes: () => readonly DeclaredRoute[],
  read: (route: DeclaredRoute) => T | undefined,
): (method: string, route: string) => T | undefined {
  let byRoute: Map<string, T> | undefined;
  return (method, route) => {
    byRoute ??= new Map(
      listRoutes().flatMap((declared) => {
        const found = read(declared);
        return found === undefined ? [] : [[`${declared.method} ${declared.path}`, found]];
      }),
    );
    return byRoute.get(`${method === "HEAD" ? "GET" : method} ${route}`);
  };
}
