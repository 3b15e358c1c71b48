const dateSuffix = /-(?:\d{8}|\d{4}-\d{2}-\d{2}|latest)$/;

/**
 * Finds a model's entry in a table. Returns undefined if there is none. A dated name without an entry (`gpt-4o-2024-08-06`) uses
 * the entry of its undated name.
 */
export function findByModel<Entry>(model: string, table: Readonly<Record<string, Entry>>): Entry | undefined {
  const name = [model, model.replace(dateSuffix, "")].find((candidate) => Object.hasOwn(table, candidate));
  return name === undefined ? undefined : table[name];
}
