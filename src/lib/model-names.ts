const dateSuffix = /-(?:\d{8}|\d{4}-\d{2}-\d{2}|latest)$/;

/**
 * Finds the entry of a model in a table; undefined if there is none. For a dated name without its own entry
 * (`gpt-4o-2024-08-06`, `claude-haiku-4-5-20251001`), the entry of the undated name is used.
 */
export function findByModel<Entry>(model: string, table: Readonly<Record<string, Entry>>): Entry | undefined {
  const name = [model, model.replace(dateSuffix, "")].find((candidate) => Object.hasOwn(table, candidate));
  return name === undefined ? undefined : table[name];
}
